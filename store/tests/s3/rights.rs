//! Keys that may do less than everything: what each may not do it cannot be talked into by any signature.

use store::{AccessKey, Credentials, DevStore, Rights};

use crate::client::{Answer, Client, elements};

/// A store with one object on each side of the prefix `in/`, its owner, and a key of these rights below that prefix.
async fn start(rights: Rights) -> (DevStore, Client, Client) {
    let limited = Credentials::random().unwrap();
    let key = AccessKey {
        rights,
        prefix: "in/".to_owned(),
        ..AccessKey::full(limited.clone())
    };
    let store = DevStore::start_with(|config| config.keys.add(key)).await.unwrap();
    let owner = Client::of(&store);
    let limited = Client::to(&store, &limited);
    owner.put("in/old", b"old");
    owner.put("out/old", b"old");
    (store, owner, limited)
}

fn refused(answer: &Answer, what: &str) {
    let told = (answer.status, answer.element("Code"));
    assert_eq!(told, (403, "AccessDenied".to_owned()), "{what}: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_only_key_uploads_below_its_prefix() {
    let (_store, owner, writer) = start(Rights::WriteOnly).await;
    assert_eq!(writer.put("in/new", b"new").status, 200);
    assert_eq!(owner.get("in/new").body, b"new");

    // As a broker has it: its own key begins and ends the upload, this one signs the parts.
    let id = owner.create("in/joined");
    let number = [("partNumber", "1"), ("uploadId", id.as_str())];
    for target in [
        writer.v4("PUT", "in/joined", &number, &[]),
        writer.v2("PUT", "in/joined", &number, ""),
    ] {
        assert_eq!(writer.send("PUT", &target, &[], b"part").status, 200);
    }
    let listed = writer.list_parts("in/joined", &id, "0").text();
    let etag = elements(&listed, "ETag").remove(0);
    assert_eq!(owner.complete("in/joined", &id, &[(1, &etag)]).status, 200);
    assert_eq!(owner.get("in/joined").body, b"part");

    let id = writer.create("in/alone");
    let etag = writer.part("in/alone", &id, 1, b"alone").etag();
    assert_eq!(writer.complete("in/alone", &id, &[(1, &etag)]).status, 200);
    let id = writer.create("in/aborted");
    assert_eq!(
        writer.ask("DELETE", "in/aborted", &[("uploadId", &id)], b"").status,
        204
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_only_key_cannot_read_copy_list_delete_or_write_elsewhere() {
    let (_store, owner, writer) = start(Rights::WriteOnly).await;
    let (id, outside) = (owner.create("in/upload"), owner.create("out/upload"));
    for (method, key, query) in [
        ("GET", "in/old", vec![]),
        ("GET", "in/old", vec![("acl", "")]),
        ("GET", "", vec![]),
        ("GET", "", vec![("list-type", "2"), ("prefix", "in/")]),
        ("GET", "", vec![("prefix", "in/"), ("uploads", "")]),
        ("GET", "", vec![("location", "")]),
        ("GET", "out/upload", vec![("uploadId", outside.as_str())]),
        ("DELETE", "in/old", vec![]),
        ("DELETE", "", vec![]),
        ("PUT", "", vec![]),
        ("PUT", "in", vec![]),
        ("PUT", "out/new", vec![]),
        (
            "PUT",
            "out/upload",
            vec![("partNumber", "1"), ("uploadId", outside.as_str())],
        ),
        ("POST", "out/new", vec![("uploads", "")]),
        ("DELETE", "out/upload", vec![("uploadId", outside.as_str())]),
    ] {
        let answer = writer.ask(method, key, &query, b"");
        refused(&answer, &format!("{method} {key} {query:?}"));
    }
    let head = writer.ask("HEAD", "in/old", &[], b"");
    assert_eq!(head.status, 403);
    let many = "<Delete><Object><Key>in/old</Key></Object></Delete>";
    refused(
        &writer.ask("POST", "", &[("delete", "")], many.as_bytes()),
        "DeleteObjects",
    );

    let number = [("partNumber", "1"), ("uploadId", id.as_str())];
    for (key, query, header) in [
        ("in/copy", &[][..], ("x-amz-copy-source", "/uploads/in/old")),
        ("in/upload", &number[..], ("x-amz-copy-source", "/uploads/in/old")),
        ("in/open", &[][..], ("x-amz-acl", "public-read")),
    ] {
        let target = writer.v4("PUT", key, query, &[header]);
        refused(&writer.send("PUT", &target, &[header], b""), header.0);
    }
    for hoisted in [("x-amz-copy-source", "/uploads/in/old"), ("X-Amz-Acl", "public-read")] {
        refused(&writer.ask("PUT", "in/hoisted", &[hoisted], b""), hoisted.0);
    }
    let listed = owner.ask("GET", "", &[("list-type", "2")], b"").text();
    assert_eq!(elements(&listed, "Key"), ["in/old", "out/old"]);
    assert!(elements(&owner.list_parts("in/upload", &id, "0").text(), "ETag").is_empty());
    assert_eq!(owner.list_parts("out/upload", &outside, "0").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_only_key_can_keep_from_overwriting() {
    let (_store, owner, writer) = start(Rights::WriteOnly).await;
    let unless = [("if-none-match", "*")];
    assert_eq!(writer.call("PUT", "in/new", &[], &unless, b"new").status, 200);
    assert_eq!(writer.call("PUT", "in/old", &[], &unless, b"new").status, 412);
    assert_eq!(owner.get("in/old").body, b"old");
    refused(
        &writer.call("PUT", "out/old", &[], &unless, b"new"),
        "beside its prefix",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_key_reads_below_its_prefix_and_changes_nothing() {
    let (_store, owner, reader) = start(Rights::ReadOnly).await;
    assert_eq!(reader.get("in/old").body, b"old");
    let listed = reader
        .ask("GET", "", &[("list-type", "2"), ("prefix", "in/")], b"")
        .text();
    assert_eq!(elements(&listed, "Key"), ["in/old"]);
    assert_eq!(reader.ask("HEAD", "", &[], b"").status, 200);

    let id = owner.create("in/upload");
    assert_eq!(reader.list_parts("in/upload", &id, "0").status, 200);
    let open = [("partNumber", "1"), ("uploadId", id.as_str())];
    for (method, key, query) in [
        ("GET", "out/old", vec![]),
        ("GET", "", vec![]),
        ("GET", "", vec![("list-type", "2"), ("prefix", "i")]),
        ("GET", "", vec![("uploads", "")]),
        ("PUT", "in/new", vec![]),
        ("POST", "in/new", vec![("uploads", "")]),
        ("PUT", "in/upload", open.to_vec()),
        ("POST", "in/upload", vec![("uploadId", id.as_str())]),
        ("DELETE", "in/upload", vec![("uploadId", id.as_str())]),
        ("DELETE", "in/old", vec![]),
    ] {
        let answer = reader.ask(method, key, &query, b"");
        refused(&answer, &format!("{method} {key} {query:?}"));
    }
    assert_eq!(owner.get("in/old").body, b"old");
    assert_eq!(owner.list_parts("in/upload", &id, "0").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_all_rights_below_a_prefix_has_none_beside_it() {
    let (_store, owner, limited) = start(Rights::Full).await;
    let both = "<Delete><Object><Key>in/old</Key></Object><Object><Key>out/old</Key></Object></Delete>";
    refused(
        &limited.ask("POST", "", &[("delete", "")], both.as_bytes()),
        "DeleteObjects",
    );
    refused(&limited.ask("DELETE", "", &[], b""), "DeleteBucket");
    assert_eq!(owner.get("in/old").body, b"old");
    for (source, status) in [("/uploads/out/old", 403), ("/uploads/in/old", 200)] {
        let header = ("x-amz-copy-source", source);
        let target = limited.v4("PUT", "in/copy", &[], &[header]);
        assert_eq!(limited.send("PUT", &target, &[header], b"").status, status, "{source}");
        let id = owner.create("in/joined");
        let part = [("partNumber", "1"), ("uploadId", id.as_str())];
        let target = limited.v4("PUT", "in/joined", &part, &[header]);
        assert_eq!(limited.send("PUT", &target, &[header], b"").status, status, "{source}");
    }
    let one = "<Delete><Object><Key>in/old</Key></Object></Delete>";
    assert_eq!(limited.ask("POST", "", &[("delete", "")], one.as_bytes()).status, 200);
    assert_eq!(owner.get("in/old").status, 404);
    assert_eq!(owner.get("out/old").body, b"old");
}
