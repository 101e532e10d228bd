//! How many requests a second an address or a principal may send, and who is told to come again.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quick_cache::sync::Cache;

use crate::app::Shared;
use crate::error::ApiError;

/// Most addresses and most principals whose rates are known; those that have not been heard of for longest are forgotten.
const KNOWN: usize = 100_000;

/// Parts or files that count for a request more.
const ENTRIES: usize = 100;
/// Bytes of a body that do.
const BYTES: usize = 16 << 10;

/// Where a request comes from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub Option<IpAddr>);

/// Rates of addresses and of principals.
#[derive(Debug)]
pub struct Rates {
    addresses: Limits<IpAddr>,
    principals: Limits<String>,
    /// Whether this machine's own requests count too.
    loopback: bool,
}

#[derive(Debug)]
struct Limits<K> {
    quota: Option<Quota>,
    known: Cache<K, Arc<DefaultDirectRateLimiter>>,
}

impl<K: std::hash::Hash + Eq + Clone> Limits<K> {
    /// Two seconds' worth may come at once, and twenty in any case.
    fn new(per_second: u32) -> Self {
        let burst = NonZeroU32::new(per_second.saturating_mul(2).max(20));
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self {
            quota: quota.zip(burst).map(|(quota, burst)| quota.allow_burst(burst)),
            known: Cache::new(KNOWN),
        }
    }

    /// Takes `cost` requests' worth.
    fn take(&self, key: &K, cost: u32) -> Result<(), ApiError> {
        let (Some(quota), Some(cost)) = (self.quota, NonZeroU32::new(cost)) else {
            return Ok(());
        };
        let limiter = self.known.get(key).unwrap_or_else(|| {
            let fresh = Arc::new(RateLimiter::direct(quota));
            self.known.insert(key.clone(), Arc::clone(&fresh));
            fresh
        });
        // What costs more than may ever come at once has to be had some time.
        let cost = cost.min(quota.burst_size());
        let wait = match limiter.check_n(cost) {
            Ok(Ok(())) | Err(_) => return Ok(()),
            Ok(Err(not_yet)) => not_yet.wait_time_from(DefaultClock::default().now()),
        };
        let again_in = (wait + Duration::from_millis(999)).as_secs().max(1);
        Err(ApiError::TooManyRequests { again_in })
    }
}

impl Rates {
    /// So many requests a second; 0 for any number. `loopback` says whether this machine's own count too, as they do where a
    /// proxy on it sends everybody's.
    pub fn new(per_address: u32, per_principal: u32, loopback: bool) -> Self {
        Self {
            addresses: Limits::new(per_address),
            principals: Limits::new(per_principal),
            loopback,
        }
    }

    fn counts(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        address.filter(|address| self.loopback || !address.is_loopback())
    }

    /// Takes a request of an address, before anybody knows whose it is.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`]
    pub fn take_address(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        match self.counts(address) {
            Some(address) => self.addresses.take(&household(address), 1),
            None => Ok(()),
        }
    }

    /// Takes a principal's request from an address.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`]
    pub fn take_principal(&self, name: &str, address: Option<IpAddr>) -> Result<(), ApiError> {
        match self.counts(address) {
            Some(_) => self.principals.take(&name.to_owned(), 1),
            None => Ok(()),
        }
    }

    /// Takes what a request asks for beyond what any request does: one for every hundred parts or files.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`]
    pub fn take_entries(&self, name: &str, address: Option<IpAddr>, entries: usize) -> Result<(), ApiError> {
        self.take_more(name, address, entries / ENTRIES)
    }

    /// Takes what a body costs beyond what a small one does: one for every 16 KiB.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`]
    pub fn take_body(&self, name: &str, address: Option<IpAddr>, bytes: usize) -> Result<(), ApiError> {
        self.take_more(name, address, bytes / BYTES)
    }

    fn take_more(&self, name: &str, address: Option<IpAddr>, cost: usize) -> Result<(), ApiError> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        match self.counts(address) {
            Some(_) => self.principals.take(&name.to_owned(), cost),
            None => Ok(()),
        }
    }
}

/// What one subscriber is given: an IPv4 address, or 64 bits of an IPv6 one (RFC 6177).
pub(super) fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Finds out where a request comes from, and refuses those of an address that sends too many.
///
/// # Errors
/// None of its own.
pub async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<actix_web::body::EitherBody<impl MessageBody>>, Error> {
    let taken = match request.app_data::<Shared>() {
        Some(broker) => {
            let address = broker.proxies.client_of(request.head());
            request.extensions_mut().insert(ClientAddress(address));
            // Balancers ask these from one address for everybody.
            if request.method() == Method::GET && matches!(request.path(), "/healthz" | "/readyz") {
                Ok(())
            } else {
                broker.rates.take_address(address)
            }
        }
        None => Ok(()),
    };
    match taken {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rates: &Rates, address: &str, times: usize) -> usize {
        let address = address.parse().ok();
        (0..times).filter(|_| rates.take_address(address).is_ok()).count()
    }

    #[test]
    fn an_address_may_send_two_seconds_worth_at_once_and_is_then_told_when_to_come_again() {
        let rates = Rates::new(50, 0, false);
        assert_eq!(taken(&rates, "192.0.2.1", 300), 100);
        let refused = rates.take_address("192.0.2.1".parse().ok()).unwrap_err();
        assert_eq!(refused.retry_after(), Some(1));
        assert_eq!(taken(&rates, "192.0.2.2", 1), 1, "others are not held up");
        assert_eq!(taken(&rates, "127.0.0.1", 300), 300, "nor is this machine");
        assert_eq!(
            taken(&Rates::new(50, 0, true), "127.0.0.1", 300),
            100,
            "unless a proxy on it is trusted"
        );
        assert_eq!(taken(&Rates::new(0, 0, false), "192.0.2.1", 300), 300, "0 is no limit");
    }

    #[test]
    fn all_addresses_of_one_subscriber_count_together() {
        let rates = Rates::new(10, 0, false);
        let all: usize = (0..100)
            .map(|host| taken(&rates, &format!("2001:db8:0:1::{host:x}"), 1))
            .sum();
        assert_eq!(all, 20);
        assert_eq!(taken(&rates, "2001:db8:0:2::1", 1), 1);
    }

    #[test]
    fn t27_what_asks_for_much_at_once_counts_for_as_much() {
        let rates = Rates::new(0, 10, false);
        let address = "192.0.2.1".parse().ok();
        let windows = (0..50)
            .filter(|_| rates.take_entries("a", address, 1000).is_ok())
            .count();
        assert_eq!(windows, 2, "two windows of a thousand parts are twenty requests");
        assert!(rates.take_entries("b", address, 99).is_ok());
        let bodies = (0..50)
            .filter(|_| rates.take_body("c", address, 160 << 10).is_ok())
            .count();
        assert_eq!(bodies, 2, "two bodies of 160 KiB likewise");
    }

    #[test]
    fn a_million_addresses_are_not_all_remembered() {
        let rates = Rates::new(10, 0, false);
        for number in 0..1_000_000_u32 {
            _ = rates.take_address(Some(std::net::Ipv4Addr::from(0x0b00_0000 + number).into()));
        }
        assert!(rates.addresses.known.len() <= KNOWN);
    }
}
