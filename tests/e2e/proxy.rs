//! Two brokers behind nginx, by the settings that docs/operations/nginx.conf gives for it.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use broker::Settings;
use broker::ledger::sqlite_url;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Api, Beside, Stack, StoreUnderTest, in_time};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

const SITE: &str = include_str!("../../docs/operations/nginx.conf");

/// What nginx wants besides: to run as whoever runs the tests, and write below one directory.
const AROUND: &str = "daemon off; master_process off; pid pid; error_log stderr; events {}
http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi; scgi_temp_path scgi; include site.conf; }";

/// A proxy that runs until it is dropped.
struct Nginx {
    address: SocketAddr,
    _running: Child,
    directory: TempDir,
}

impl Nginx {
    /// Before these brokers; none where nginx is not installed.
    async fn before(brokers: [SocketAddr; 2]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut site = SITE.replace("listen 8080;", &format!("listen {address};"));
        let logs = format!("{}/", directory.path().display());
        site = site.replace("/var/log/nginx/", &logs);
        for (name, broker) in ["broker-1:5000", "broker-2:5000"].into_iter().zip(brokers) {
            assert!(site.contains(name), "{site}");
            site = site.replace(name, &broker.to_string());
        }
        std::fs::write(directory.path().join("site.conf"), site).unwrap();
        std::fs::write(directory.path().join("nginx.conf"), AROUND).unwrap();
        let mut nginx = Command::new("nginx");
        let prefix = directory.path();
        nginx.arg("-p").arg(prefix).arg("-c").arg(prefix.join("nginx.conf"));
        let running = nginx
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        in_time(async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Some(Self {
            address,
            _running: running,
            directory,
        })
    }

    /// What it has written of requests.
    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("access.log")).unwrap()
    }

    fn api(&self) -> Api {
        Api::at(format!("http://{}", self.address))
    }
}

/// Two brokers of one ledger that trust a proxy on this machine, with these settings besides; and the proxy.
async fn stand(file: &str) -> Option<(Stack, Beside, Nginx)> {
    let written = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(written.path(), format!("trusted_proxies = \"127.0.0.1\"\n{file}")).unwrap();
    let ledger = tempfile::tempdir().unwrap().keep();
    let settings = Settings {
        ledger: Some(sqlite_url(&ledger.join("ledger.db"))),
        ..Settings::read(written.path()).unwrap()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let other = stack.beside().await;
    let nginx = Nginx::before([stack.broker.address(), other.broker.address()]).await?;
    Some((stack, other, nginx))
}

#[tokio::test]
async fn uploads_go_through_the_proxy_and_on_through_one_broker_when_the_other_is_gone() {
    let Some((stack, other, nginx)) = stand("allow_anonymous = true\n").await else {
        eprintln!("skipped: there is no nginx here");
        return;
    };
    let api = nginx.api();
    assert_eq!(api.upload("a", b"content").await.size, 7);
    assert_eq!(stack.bucket.get("a").await.unwrap().bytes, b"content");
    assert_eq!(api.get("/metrics").await.status, 404);
    let upload = api.create("b", 7).await;
    drop(other);
    for _ in 0..20 {
        assert_eq!(api.get("/v1/me").await.status, 200);
        assert_eq!(
            api.post("/v1/uploads", &json!({"name": "c", "size": 7})).await.status,
            201
        );
    }
    api.send_parts(&upload, b"content", [1]).await;
    assert_eq!(api.complete(&upload.upload_id).await.status, 200);
}

#[tokio::test]
async fn t17_the_proxys_log_has_neither_queries_nor_tickets() {
    let Some((_stack, _other, nginx)) = stand("allow_anonymous = true\n").await else {
        eprintln!("skipped: there is no nginx here");
        return;
    };
    let api = nginx.api();
    api.get("/t/ubk_secret/v1/me?key=hidden").await;
    api.get("/v1/tickets/ubk_secret").await;
    api.get("/T/ubt_secret/v1").await;
    api.get("/v1/uploads?limit=7").await;
    in_time(async {
        while !nginx.log().contains("\"GET /v1/uploads\" 200") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let log = nginx.log();
    assert!(
        log.contains("\"GET /t/.../v1/me\" 401") && log.contains("\"GET /v1/uploads\" 200"),
        "{log}"
    );
    assert!(
        !log.contains("secret") && !log.contains("hidden") && !log.contains("limit"),
        "{log}"
    );
}

#[tokio::test]
async fn what_a_client_writes_of_its_address_reaches_no_rate_and_no_trail() {
    let Some((_stack, _other, nginx)) = stand("allow_anonymous = true\nrate_per_address = 5\n").await else {
        eprintln!("skipped: there is no nginx here");
        return;
    };
    let api = nginx.api();
    let forged = |method, path, number: u32| {
        let request = api
            .request(method, path)
            .header("x-forwarded-for", format!("203.0.113.{number}"));
        request
            .header("x-real-ip", "203.0.113.1")
            .header("forwarded", "for=203.0.113.1")
    };
    let created = forged(Method::POST, "/v1/uploads", 1).json(&json!({"name": "a", "size": 7}));
    let created: Value = api.send(created).await.expect(201);
    let path = format!("/v1/uploads/{}/events", created["upload_id"].as_str().unwrap());
    let events: Value = api.get(&path).await.expect(200);
    assert_eq!(events["events"][0]["address"], "127.0.0.1", "{events}");
    // All at once: each refusal is held up for a moment, in which another's turn would come.
    let mut answers = JoinSet::new();
    for number in 2..62 {
        let (api, request) = (api.clone(), forged(Method::GET, "/v1/me", number));
        answers.spawn(async move { api.send(request).await.status });
    }
    let answers = in_time(answers.join_all()).await;
    let refused = answers.iter().filter(|status| **status == 429).count();
    // Two brokers count by themselves: ten at once on each, and the few whose turn has come since.
    assert!(refused >= 20, "{answers:?}");
}

#[tokio::test]
async fn nobody_poses_as_who_a_proxy_has_authenticated() {
    let rules = "[forward_auth]\npeers = [\"127.0.0.1\"]\ngroups_header = \"Remote-Groups\"\n";
    let Some((stack, _other, nginx)) = stand(rules).await else {
        eprintln!("skipped: there is no nginx here");
        return;
    };
    let as_admin = |api: &Api| {
        let request = api.request(Method::GET, "/v1/me").header("remote-user", "admin");
        request.header("remote-groups", "admins")
    };
    let direct = stack.api.send(as_admin(&stack.api)).await;
    assert_eq!(direct.status, 200, "the brokers believe this machine");
    let api = nginx.api();
    assert_eq!(
        api.send(as_admin(&api)).await.status,
        401,
        "and nginx says nothing of the kind"
    );
}
