//! The system under test in one line: a store, a broker before it, and the tools to look at both from outside.
//!
//! ```text
//! Stack ─┬─ StoreUnderTest   the embedded store, or one that a script started (AWS_ENDPOINT_URL_S3, STORE_PROFILE)
//!        ├─ Broker           in this process on a free port; or BrokerProcess, which can be killed
//!        ├─ Api              requests as any HTTP client makes them; Answer, which checks the shape of every problem
//!        └─ Bucket           what is really in the store, asked by other code than the broker's
//! Receiver                    a webhook's other end, which checks what it hears by other code than the broker's
//! series()                    what /metrics prints, read by other code than printed it
//! postgres_database()         a ledger that several brokers share; Relay, a balancer before them, or a line to cut
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this runs inside tests, where a surprise has to end the test, loudly"
)]

mod api;
mod bucket;
mod bytes;
mod certificate;
mod postgres;
mod process;
mod receiver;
mod relay;
mod series;
mod stack;
mod store_under_test;
mod wait;

pub use api::{Answer, Api, put};
pub use bucket::{Bucket, Object};
pub use bytes::{cut, md5, multipart_etag, pattern, random_bytes, sha256_hex, unique};
pub use certificate::certificate;
pub use postgres::postgres_database;
pub use process::{BrokerProcess, Finished, Program};
pub use receiver::{Heard, Receiver};
pub use relay::Relay;
pub use series::{Series, series};
pub use stack::{Beside, Broker, Stack};
pub use store_under_test::{StoreKind, StoreUnderTest};
pub use wait::{in_time, until};
