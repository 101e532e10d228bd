//! What stands between the network and the handlers: whose address a request counts against, how many there may be, TLS.

pub mod address;
pub mod rates;
pub mod tls;
