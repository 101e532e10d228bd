//! The address that a request comes from: the other end of the connection, or what a trusted proxy says stood at its own.

use std::net::{IpAddr, SocketAddr};

use actix_web::dev::RequestHead;
use actix_web::http::header::HeaderName;
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether there is any.
    pub fn are_configured(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether this is one of them.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from. Each proxy adds the address that it saw at the end of the list, so that the last one that
    /// is no trusted proxy's is the client's; what stands before it, anybody can have written.
    pub fn client_of(&self, head: &RequestHead) -> Option<IpAddr> {
        // An IPv4 address is told as one, also where the socket takes both kinds.
        let peer = head.peer_addr?.ip().to_canonical();
        if !self.trust(peer) {
            return Some(peer);
        }
        let said: Vec<_> = head.headers().get_all(FORWARDED_FOR).collect();
        let addresses = said
            .iter()
            .rev()
            .flat_map(|value| value.to_str().unwrap_or_default().split(',').rev())
            .map(|text| address_of(text.trim()));
        let mut client = peer;
        for address in addresses {
            match address {
                Some(address) if self.trust(address) => client = address,
                Some(address) => return Some(address),
                // Not even a proxy's: nothing before it can be gone by either.
                None => return Some(client),
            }
        }
        Some(client)
    }
}

/// An address, which some proxies tell with the port.
pub(crate) fn address_of(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn client(peer: &str, said: &[&'static str]) -> String {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut request = TestRequest::default().peer_addr(format!("{peer}:1").parse().unwrap());
        for value in said {
            request = request.append_header(("x-forwarded-for", *value));
        }
        let request = request.to_srv_request();
        proxies.client_of(request.head()).unwrap().to_string()
    }

    #[test]
    fn t23_an_address_that_somebody_else_than_a_trusted_proxy_says_is_not_believed() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("127.0.0.1", &["198.51.100.7"]), "127.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client("[fd00::1]", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client("[::ffff:10.0.0.1]", &["198.51.100.7"]), "198.51.100.7");
        // The client's own words come first, the nearest proxy's last.
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }
}
