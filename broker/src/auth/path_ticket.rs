//! `/t/TICKET/…`: a ticket in the path, for pages and programs that cannot send a header.

use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;

use super::bearer::{Bearer, Kind};
use super::identify::PathTicket;

const PREFIX: &str = "/t/";

/// Takes the ticket out of the path, before anything looks at the path or logs it: what follows is answered as if the path
/// were only that, and the ticket were its credential. It goes before a header, which a page may send for another reason.
pub fn take(request: &mut ServiceRequest) {
    let Some((ticket, path)) = split(request.path()) else {
        return;
    };
    let ticket = Bearer::read(ticket).filter(|bearer| bearer.kind == Kind::Ticket);
    let query = request.query_string();
    let target = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    };
    let Ok(target) = target.parse::<PathAndQuery>() else {
        return;
    };
    let mut parts = request.head().uri.clone().into_parts();
    parts.path_and_query = Some(target);
    if let Ok(uri) = Uri::from_parts(parts) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    request.extensions_mut().insert(PathTicket(ticket));
}

/// What stands where a ticket would, and the path after it.
fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(PREFIX)?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (ticket, path) = rest.split_at_checked(end)?;
    Some((ticket, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::random::Random;

    #[test]
    fn the_path_is_what_follows_the_ticket_and_nothing_of_it_stays() {
        let (bearer, text) = Bearer::make(Kind::Ticket, &Random::default());
        let uri = format!("/t/{text}/v1/uploads?limit=1");
        let mut request = TestRequest::with_uri(&uri).to_srv_request();
        take(&mut request);
        assert_eq!((request.path(), request.query_string()), ("/v1/uploads", "limit=1"));
        assert!(!request.uri().to_string().contains("ubk_"));
        let PathTicket(ticket) = request.extensions().get::<PathTicket>().cloned().unwrap();
        assert!(ticket.unwrap().is(&bearer.digest()));
    }

    #[test]
    fn a_path_with_something_else_in_its_place_is_nobodys() {
        let (_, token) = Bearer::make(Kind::Token, &Random::default());
        for (uri, path) in [
            (format!("/t/{token}/v1/me"), "/v1/me"),
            ("/t/nothing".to_owned(), "/"),
            ("/t//v1/me".to_owned(), "/v1/me"),
        ] {
            let mut request = TestRequest::with_uri(&uri).to_srv_request();
            take(&mut request);
            assert_eq!(request.path(), path);
            assert!(matches!(
                request.extensions().get::<PathTicket>(),
                Some(PathTicket(None))
            ));
        }
        let mut other = TestRequest::with_uri("/tx/v1/me").to_srv_request();
        take(&mut other);
        assert!(other.extensions().get::<PathTicket>().is_none());
    }
}
