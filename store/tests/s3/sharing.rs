//! Ownership controls and public access blocks: what keeps ACLs from letting others in.

use store::DevStore;

use crate::client::{Answer, Client, refused};

fn block(ignore: bool, acls: bool) -> String {
    format!(
        "<PublicAccessBlockConfiguration><BlockPublicAcls>{acls}</BlockPublicAcls><IgnorePublicAcls>{ignore}</IgnorePublicAcls>\
         <BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>"
    )
}

fn ownership(name: &str) -> String {
    format!("<OwnershipControls><Rule><ObjectOwnership>{name}</ObjectOwnership></Rule></OwnershipControls>")
}

/// Everybody's view of an object and of its bucket.
fn seen_by_all(client: &Client) -> [u16; 2] {
    ["/uploads/public", "/uploads"].map(|target| client.send("GET", target, &[], b"").status)
}

fn publish(client: &Client) -> [Answer; 5] {
    let public = [("x-amz-acl", "public-read")];
    [
        client.call("PUT", "public", &[], &public, b"bytes"),
        client.call("PUT", "public", &[("acl", "")], &public, b""),
        client.call("PUT", "", &[("acl", "")], &public, b""),
        client.call("POST", "public", &[("uploads", "")], &public, b""),
        client.call("PUT", "", &[], &public, b""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_access_block_keeps_acls_from_counting_and_from_being_set() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let put = |xml: String| {
        client
            .ask("PUT", "", &[("publicAccessBlock", "")], xml.as_bytes())
            .status
    };
    for answer in publish(&client) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(seen_by_all(&client), [200, 200]);

    assert_eq!(put(block(true, false)), 200);
    assert_eq!(seen_by_all(&client), [403, 403]);
    let told = client.ask("GET", "", &[("publicAccessBlock", "")], b"");
    let names = [
        "IgnorePublicAcls",
        "BlockPublicAcls",
        "BlockPublicPolicy",
        "RestrictPublicBuckets",
    ];
    assert_eq!(names.map(|name| told.element(name)), ["true", "false", "true", "false"]);

    assert_eq!(put(block(false, true)), 200);
    assert_eq!(seen_by_all(&client), [200, 200]);
    for answer in publish(&client) {
        assert_eq!(refused(&answer), (403, "AccessDenied".into()));
    }
    let private = client.call("PUT", "public", &[], &[("x-amz-acl", "private")], b"bytes");
    assert_eq!(private.status, 200, "{}", private.text());

    assert_eq!(client.ask("DELETE", "", &[("publicAccessBlock", "")], b"").status, 204);
    assert_eq!(client.ask("GET", "", &[("publicAccessBlock", "")], b"").status, 404);
    assert_eq!(publish(&client).map(|answer| answer.status), [200; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_owner_owns_all_no_acl_counts() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let put = |name: &str| client.ask("PUT", "", &[("ownershipControls", "")], ownership(name).as_bytes());
    publish(&client);
    let code = "InvalidBucketAclWithObjectOwnership";
    assert_eq!(refused(&put("BucketOwnerEnforced")), (400, code.into()));
    client.call("PUT", "", &[("acl", "")], &[("x-amz-acl", "private")], b"");
    assert_eq!(seen_by_all(&client), [200, 403]);

    assert_eq!(put("BucketOwnerEnforced").status, 200);
    assert_eq!(seen_by_all(&client), [403, 403]);
    for answer in publish(&client) {
        assert_eq!(refused(&answer), (400, "AccessControlListNotSupported".into()));
    }
    for name in ["BucketOwnerPreferred", "ObjectWriter"] {
        assert_eq!(put(name).status, 200, "{name}");
        let told = client.ask("GET", "", &[("ownershipControls", "")], b"");
        assert_eq!(told.element("ObjectOwnership"), name);
        assert_eq!(publish(&client).map(|answer| answer.status), [200; 5], "{name}");
    }
    assert_eq!(refused(&put("Everybody")), (400, "MalformedXML".into()));
    assert_eq!(client.ask("DELETE", "", &[("ownershipControls", "")], b"").status, 204);
    assert_eq!(client.ask("GET", "", &[("ownershipControls", "")], b"").status, 404);
}
