//! The word of a proxy that has authenticated the caller: believed from configured addresses only, ignored from all others.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::Deserialize;

use crate::error::ApiError;
use crate::principal::{Principal, is_name};

/// `[forward_auth]` of the settings file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardSettings {
    /// Addresses or networks (CIDR) of the proxies.
    pub peers: Vec<String>,
    /// The header that names the principal.
    #[serde(default = "user_header")]
    pub user_header: String,
    /// The header that names roles, separated by commas; none where there is no such header.
    pub groups_header: Option<String>,
}

fn user_header() -> String {
    "Remote-User".to_owned()
}

/// Whose word is believed, and where it stands.
#[derive(Clone, Debug)]
pub struct ForwardAuth {
    peers: Vec<IpNet>,
    user: HeaderName,
    groups: Option<HeaderName>,
}

impl ForwardAuth {
    /// The proxies, with commas between them.
    pub fn peers(&self) -> String {
        let peers: Vec<_> = self.peers.iter().map(ToString::to_string).collect();
        peers.join(", ")
    }
}

impl ForwardSettings {
    /// What is meant by these settings.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn resolve(&self) -> Result<ForwardAuth, Vec<String>> {
        let mut wrong = Vec::new();
        let mut peers = Vec::new();
        if self.peers.is_empty() {
            wrong.push(
                "forward_auth: peers is empty; name the proxy's address or network, such as 10.0.0.7 or 10.0.0.0/8"
                    .to_owned(),
            );
        }
        for text in &self.peers {
            match network(text) {
                Ok(net) => peers.push(net),
                Err(why) => wrong.push(format!("forward_auth: peers: {why}")),
            }
        }
        let mut header = |field: &str, text: &str| {
            let name = HeaderName::try_from(text).ok();
            if name.is_none() {
                wrong.push(format!("forward_auth: {field}: {text:?} is no header's name"));
            }
            name
        };
        let user = header("user_header", &self.user_header);
        let groups = self.groups_header.as_deref().map(|text| header("groups_header", text));
        match user {
            Some(user) if wrong.is_empty() => Ok(ForwardAuth {
                peers,
                user,
                groups: groups.flatten(),
            }),
            _ => Err(wrong),
        }
    }
}

/// The address, or the network in CIDR notation, of proxies whose word is taken.
///
/// # Errors
/// It is none, or it is everybody's.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is no address or network (CIDR)"))?;
    if network.prefix_len() == 0 {
        return Err(format!(
            "{text} is everybody, and anybody could say what only the proxy may; name the proxy's address"
        ));
    }
    Ok(network)
}

impl ForwardAuth {
    /// Whom a request is from by its headers, if it comes from a proxy that is believed and that names somebody.
    ///
    /// # Errors
    /// The proxy names somebody whose name cannot be a principal's.
    pub fn identify(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Option<Principal>, ApiError> {
        let trusted = peer.is_some_and(|peer| self.peers.iter().any(|net| net.contains(&peer.to_canonical())));
        let mut names = headers.get_all(&self.user);
        let Some(name) = names.next().filter(|_| trusted) else {
            return Ok(None);
        };
        let refused =
            |header: &HeaderName, why: &str| ApiError::InvalidCredential(format!("the proxy's header {header} {why}"));
        let twice = "is there more than once; the proxy has to remove what clients send under this name";
        if names.next().is_some() {
            return Err(refused(&self.user, twice));
        }
        let name = name.to_str().unwrap_or_default();
        if !is_name(name) {
            return Err(refused(
                &self.user,
                "holds no name that a principal can have: at most 64 letters, digits and . - _ : @",
            ));
        }
        let groups: Vec<_> = self.groups.iter().flat_map(|header| headers.get_all(header)).collect();
        if let (Some(header), [_, _, ..]) = (&self.groups, groups.as_slice()) {
            return Err(refused(header, twice));
        }
        let groups = match (&self.groups, groups.first().map(|value| value.to_str())) {
            (Some(header), Some(Err(_))) => return Err(refused(header, "is not ASCII")),
            (_, text) => text.and_then(Result::ok).unwrap_or_default(),
        };
        let roles = groups
            .split(',')
            .map(|role| role.trim().to_owned())
            .filter(|role| !role.is_empty());
        Ok(Some(Principal::named(name).with_roles(roles.collect())))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn auth() -> ForwardAuth {
        ForwardSettings {
            peers: vec!["10.1.0.0/16".into(), "::1".into()],
            user_header: user_header(),
            groups_header: Some("Remote-Groups".into()),
        }
        .resolve()
        .unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn t23_the_header_of_anybody_but_the_proxy_is_not_looked_at() {
        let said = headers(&[("remote-user", "alice"), ("remote-groups", "ci, ops")]);
        let alice = Principal::named("alice").with_roles(vec!["ci".into(), "ops".into()]);
        for trusted in ["10.1.2.3", "::1", "::ffff:10.1.2.3"] {
            assert_eq!(
                auth().identify(trusted.parse().ok(), &said).unwrap().as_ref(),
                Some(&alice),
                "{trusted}"
            );
        }
        for other in [Some("10.2.0.1"), Some("127.0.0.1"), Some("::2"), None] {
            let peer = other.and_then(|peer| peer.parse().ok());
            assert_eq!(auth().identify(peer, &said).unwrap(), None, "{other:?}");
        }
    }

    #[test]
    fn two_names_or_one_that_nobody_can_have_are_refused() {
        let peer = "10.1.0.1".parse().ok();
        for said in [
            headers(&[("remote-user", "alice"), ("remote-user", "root")]),
            headers(&[("remote-user", "sweeper")]),
            headers(&[("remote-user", "a/../b")]),
            headers(&[("remote-user", "")]),
        ] {
            assert!(auth().identify(peer, &said).is_err(), "{said:?}");
        }
        assert_eq!(auth().identify(peer, &headers(&[])).unwrap(), None);
    }

    #[test]
    fn a_proxy_that_is_everybody_is_refused() {
        let settings = ForwardSettings {
            peers: vec!["0.0.0.0/0".into(), "proxy".into()],
            user_header: "no header".into(),
            groups_header: None,
        };
        assert_eq!(settings.resolve().unwrap_err().len(), 3);
    }
}
