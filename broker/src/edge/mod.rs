//! What stands between the network and the handlers: whose address a request counts against, how many there may be, how long
//! connections stay, TLS.

pub mod address;
pub mod connections;
pub mod descriptors;
pub mod rates;
pub mod tls;
