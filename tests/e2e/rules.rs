//! Destinations, grants and who has which token, for the tests of what they come to.

use broker::config::Settings;
use serde_json::Value;
use shared::api::TicketCreated;
use tests::{Api, Stack, StoreUnderTest, sha256_hex};

/// A broker with these destinations and grants, and for each of these names a token `token of NAME`.
pub(crate) async fn with_rules(names: &[&str], rules: &str) -> Stack {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let tokens = names
        .iter()
        .map(|name| format!("{name}={}", sha256_hex(&format!("token of {name}"))));
    let settings = Settings {
        tokens: Some(tokens.collect::<Vec<_>>().join(",")),
        ..Settings::read(file.path()).unwrap()
    };
    Stack::with(StoreUnderTest::embedded().await, settings).await
}

pub(crate) fn caller(stack: &Stack, name: &str) -> Api {
    stack.api.with_token(&format!("token of {name}"))
}

pub(crate) const TWO_PLACES: &str = r#"
[[destination]]
name = "backups"
key_template = "{principal}/{uuid}/{name}"

[[destination]]
name = "photos"
key_template = "photos/{principal}/{name}"
content_types = ["image/*"]
max_size = 20971520

[[grant]]
to = ["alice"]
may = ["upload", "list", "download", "tickets"]

[[grant]]
to = ["bob"]
destinations = ["photos"]
may = ["upload", "delete"]

[[grant]]
to = ["root"]
may = ["admin", "list", "download", "delete"]
"#;

/// A token of the ledger's for this principal.
pub(crate) async fn token(stack: &Stack, principal: &str, scope: &[&str]) -> String {
    use broker::auth::bearer::{Bearer, Kind};
    use broker::auth::scope::Scope;
    let state = stack.broker.state();
    let (bearer, text) = Bearer::make(Kind::Token, &state.random);
    let scope: Vec<String> = scope.iter().map(|text| (*text).to_owned()).collect();
    let scope = Scope::try_from(scope).unwrap();
    let added = state
        .ledger
        .add_token(&bearer, principal, &scope, None, state.clock.now());
    assert!(added.await.unwrap());
    text
}

pub(crate) async fn ticket(api: &Api, asked: &Value) -> TicketCreated {
    api.post("/v1/tickets", asked).await.expect(201)
}
