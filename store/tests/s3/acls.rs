//! Access control lists: canned or spelt out, of objects and of buckets.

use store::DevStore;

use crate::client::{Answer, Client, elements, refused};

const ALL: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

fn spelt_out(grants: &[(&str, &str)]) -> String {
    let grants: String = grants
        .iter()
        .map(|(grantee, permission)| {
            format!("<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" {grantee}</Grantee><Permission>{permission}</Permission></Grant>")
        })
        .collect();
    format!(
        "<AccessControlPolicy><Owner><ID>owner</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
    )
}

fn anonymous(client: &Client, path: &str) -> Answer {
    client.send("GET", path, &[], b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_changes_who_reads_and_nothing_else() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let said = [("x-amz-meta-colour", "blue")];
    client.call("PUT", "key", &[], &said, b"bytes");
    let modified = client.ask("HEAD", "key", &[], b"").header("last-modified");
    assert_eq!(anonymous(&client, "/uploads/key").status, 403);

    let acl = [("x-amz-acl", "public-read")];
    assert_eq!(client.call("PUT", "key", &[("acl", "")], &acl, b"").status, 200);
    let read = anonymous(&client, "/uploads/key");
    assert_eq!((read.status, read.body.as_slice()), (200, &b"bytes"[..]));
    assert_eq!(read.header("x-amz-meta-colour").as_deref(), Some("blue"));
    assert_eq!(read.header("last-modified"), modified);

    let owner = "xsi:type=\"CanonicalUser\"><ID>owner</ID>";
    let private = spelt_out(&[(owner, "FULL_CONTROL")]);
    assert_eq!(client.ask("PUT", "key", &[("acl", "")], private.as_bytes()).status, 200);
    assert_eq!(anonymous(&client, "/uploads/key").status, 403);
    let everybody = format!("xsi:type=\"Group\"><URI>{ALL}</URI>");
    let public = spelt_out(&[(owner, "FULL_CONTROL"), (&everybody, "READ")]);
    assert_eq!(client.ask("PUT", "key", &[("acl", "")], public.as_bytes()).status, 200);
    assert_eq!(anonymous(&client, "/uploads/key").status, 200);
    assert_eq!(
        elements(&client.ask("GET", "key", &[("acl", "")], b"").text(), "URI"),
        [ALL]
    );

    let writable = spelt_out(&[(&everybody, "WRITE")]);
    assert_eq!(
        client
            .ask("PUT", "key", &[("acl", "")], writable.as_bytes())
            .element("Code"),
        "NotImplemented"
    );
    let stranger = spelt_out(&[("xsi:type=\"CanonicalUser\"><ID>stranger</ID>", "READ")]);
    assert_eq!(
        client
            .ask("PUT", "key", &[("acl", "")], stranger.as_bytes())
            .element("Code"),
        "InvalidArgument"
    );
    assert_eq!(
        client.call("PUT", "absent", &[("acl", "")], &acl, b"").element("Code"),
        "NoSuchKey"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_bucket_is_listed_by_anybody_and_its_private_objects_are_not_read() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("private", b"");
    assert_eq!(anonymous(&client, "/uploads?list-type=2").status, 403);
    assert_eq!(
        anonymous(&client, "/uploads/absent").status,
        403,
        "who may not list is not told"
    );
    let acl = [("x-amz-acl", "public-read")];
    assert_eq!(client.call("PUT", "", &[("acl", "")], &acl, b"").status, 200);
    for path in ["/uploads", "/uploads?list-type=2"] {
        assert_eq!(anonymous(&client, path).element("Key"), "private", "{path}");
    }
    assert_eq!(anonymous(&client, "/uploads/private").status, 403);
    assert_eq!(anonymous(&client, "/uploads/absent").status, 404);
    assert_eq!(client.send("PUT", "/uploads/new", &[], b"").status, 403);
    assert_eq!(anonymous(&client, "/uploads?uploads").status, 403);
    assert_eq!(
        elements(&client.ask("GET", "", &[("acl", "")], b"").text(), "Grant").len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_made_again_has_the_acl_that_was_asked_for_then() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"bytes");
    client.call("PUT", "", &[("acl", "")], &[("x-amz-acl", "public-read")], b"");
    assert_eq!(anonymous(&client, "/uploads").status, 200);
    assert_eq!(
        client.call("PUT", "", &[], &[("x-amz-acl", "private")], b"").status,
        200
    );
    assert_eq!(anonymous(&client, "/uploads").status, 403);
    assert_eq!(client.get("key").body, b"bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_none_changes_nothing() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let owner = "<Owner><ID>owner</ID></Owner>";
    let grant = |permission: &str| {
        format!(
            "<AccessControlList><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xsi:type=\"CanonicalUser\"><ID>owner</ID></Grantee><Permission>{permission}</Permission></Grant></AccessControlList>"
        )
    };
    for (policy, status, code) in [
        (owner.to_owned(), 400, "MalformedACLError"),
        (format!("{owner}{}", grant("LISTEN")), 400, "MalformedACLError"),
        (
            format!("<Owner><ID>somebody</ID></Owner>{}", grant("READ")),
            403,
            "AccessDenied",
        ),
    ] {
        let xml = format!("<AccessControlPolicy>{policy}</AccessControlPolicy>");
        let answer = client.ask("PUT", "", &[("acl", "")], xml.as_bytes());
        assert_eq!(refused(&answer), (status, code.into()), "{policy}");
    }
}
