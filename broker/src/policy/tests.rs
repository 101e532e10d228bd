//! The rules as a table: who, what, where.

use time::OffsetDateTime;

use super::*;
use crate::auth::scope::Scope;
use crate::auth::ticket::Terms;
use crate::error::ApiError;
use crate::principal::{ANONYMOUS, Credential};
use std::sync::Arc;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn destination(name: &str, key_template: &str) -> Destination {
    Destination {
        name: name.into(),
        bucket: format!("bucket-{name}"),
        bucket_id: "0".repeat(16),
        key_template: key_template.parse().unwrap(),
        acls: vec!["private".into()],
        content_types: Vec::new(),
        serve_active_content: false,
        max_size: 100 * MIB,
        max_parts: 10,
        max_metadata: 20,
        url_life: Duration::from_mins(15),
        max_url_life: Duration::from_hours(1),
        upload_life: Duration::from_hours(2),
        overwrite: Some(Overwrite::Never),
        finish_abandoned: false,
    }
}

fn rule(to: &str, destinations: &[&str], may: &[Right]) -> Rule {
    Rule {
        to: vec![to.parse().unwrap()],
        destinations: destinations.iter().map(|name| (*name).to_owned()).collect(),
        may: may.to_vec(),
        limits: RuleLimits::default(),
    }
}

fn policy() -> Policy {
    let mut photos = destination("photos", "in/{principal}/{name}");
    photos.content_types = vec!["image/*".into()];
    let narrow = Rule {
        limits: RuleLimits {
            max_size: Some(MIB),
            open_uploads: Some(2),
            bytes_per_day: Some(3 * MIB),
        },
        ..rule("role:ci", &["backups"], &[Right::Upload])
    };
    Policy {
        destinations: vec![destination("backups", "{principal}/{uuid}/{name}"), photos],
        rules: vec![
            narrow,
            rule(
                "alice",
                &[],
                &[Right::Upload, Right::List, Right::Download, Right::Tickets],
            ),
            rule("bob", &["photos"], &[Right::Upload, Right::Delete]),
            rule(
                "root",
                &[],
                &[Right::Admin, Right::List, Right::Download, Right::Delete],
            ),
            rule(ANONYMOUS, &["photos"], &[Right::Upload]),
        ],
        zero_byte_part: true,
        single_put: true,
        equal_parts: false,
    }
}

fn token(name: &str, scope: &[&str]) -> Principal {
    let scope: Vec<String> = scope.iter().map(|text| (*text).to_owned()).collect();
    Principal::named(name).by(Credential::Token {
        id: "id".into(),
        scope: Scope::try_from(scope).unwrap(),
    })
}

fn ticket(minted_by: &str, roles: &[&str]) -> Principal {
    Principal::of_ticket(Arc::new(Terms {
        id: "T1".into(),
        minted_by: minted_by.into(),
        made_with: None,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        destination: "photos".into(),
        max_files: Some(1),
        max_bytes: Some(2 * MIB),
        max_size: Some(MIB),
        content_types: vec!["image/png".into()],
        note: None,
        created_at: NOW,
        expires_at: NOW + Duration::from_mins(5),
    }))
}

fn ci() -> Principal {
    Principal::named("gh:1").with_roles(vec!["ci".into()])
}

/// What each may do: rights at `backups`, then at `photos`, by their first letters.
#[test]
fn every_right_is_denied_that_no_rule_gives() {
    let table = [
        (Principal::named("alice"), "uldt", "uldt"),
        (Principal::named("bob"), "", "ux"),
        (Principal::named("root"), "ldxa", "ldxa"),
        (Principal::named("mallory"), "", ""),
        (Principal::named(ANONYMOUS), "", "u"),
        (ci(), "u", ""),
        (token("alice", &[]), "uldt", "uldt"),
        (token("alice", &["upload:photos", "list"]), "l", "ul"),
        // A scope narrows and gives nothing.
        (token("bob", &["admin", "upload"]), "", "u"),
        (ticket("alice", &[]), "", "u"),
        // A ticket is worth what its maker may do.
        (ticket("mallory", &[]), "", ""),
        (ticket("x", &["ci"]), "", ""),
    ];
    let letter = |right| match right {
        Right::Upload => 'u',
        Right::List => 'l',
        Right::Download => 'd',
        Right::Delete => 'x',
        Right::Tickets => 't',
        Right::Admin => 'a',
    };
    for (principal, backups, photos) in table {
        for (name, expected) in [("backups", backups), ("photos", photos)] {
            let mut may: Vec<_> = policy().rights_of(&principal, name).into_iter().map(letter).collect();
            let mut expected: Vec<_> = expected.chars().collect();
            may.sort_unstable();
            expected.sort_unstable();
            assert_eq!(may, expected, "{principal:?} at {name}");
        }
    }
}

fn create(principal: &Principal, destination: Option<&str>, size: u64) -> Result<CreateGrant, ApiError> {
    let request = CreateUpload {
        name: "a.png".into(),
        size: Some(size),
        content_type: Some("image/png".into()),
        destination: destination.map(str::to_owned),
        ..CreateUpload::default()
    };
    policy().admit_create(principal, request, NOW, random())
}

fn random() -> UploadRandom {
    UploadRandom {
        uuid: [1; 16],
        token: [2; 16],
    }
}

#[test]
fn uploads_go_where_a_rule_says_and_a_destination_one_has_no_right_at_is_like_none() {
    let codes = |result: Result<CreateGrant, ApiError>| result.map(|grant| grant.bucket).map_err(|error| error.code());
    assert_eq!(
        codes(create(&Principal::named("alice"), None, 1)),
        Ok("bucket-backups".into())
    );
    assert_eq!(
        codes(create(&Principal::named("bob"), None, 1)),
        Ok("bucket-photos".into())
    );
    assert_eq!(
        codes(create(&Principal::named("bob"), Some("backups"), 1)),
        Err("no_such_destination")
    );
    assert_eq!(
        codes(create(&Principal::named("bob"), Some("nowhere"), 1)),
        Err("no_such_destination")
    );
    assert_eq!(
        codes(create(&Principal::named("root"), Some("photos"), 1)),
        Err("not_granted")
    );
    assert_eq!(codes(create(&Principal::named("mallory"), None, 1)), Err("not_granted"));
    let narrow = token("alice", &["upload:photos"]);
    assert_eq!(codes(create(&narrow, None, 1)), Ok("bucket-photos".into()));
}

#[test]
fn the_limits_of_rule_ticket_and_destination_all_hold() {
    let (mib, alice) = (MIB, Principal::named("alice"));
    assert!(create(&alice, None, 50 * mib).is_ok());
    assert_eq!(
        create(&alice, None, 100 * mib + 1).unwrap_err().code(),
        "file_too_large"
    );
    let grant = create(&ci(), None, mib).unwrap();
    assert_eq!(
        (grant.quota.open_uploads, grant.quota.bytes_per_day),
        (Some(2), Some(3 * mib))
    );
    assert_eq!(create(&ci(), None, mib + 1).unwrap_err().code(), "file_too_large");

    let ticket = ticket("alice", &[]);
    let grant = create(&ticket, None, mib).unwrap();
    assert_eq!((grant.owner.as_str(), grant.grantee.as_str()), ("ticket:T1", "alice"));
    assert_eq!(
        grant.key.as_str(),
        "in/alice/a.png",
        "in the folder of whoever made the ticket"
    );
    assert_eq!(
        (grant.quota.ticket_files, grant.quota.ticket_bytes),
        (Some(1), Some(2 * mib))
    );
    assert_eq!(
        grant.expires_at,
        NOW + Duration::from_mins(5),
        "no longer than the ticket"
    );
    assert_eq!(create(&ticket, None, mib + 1).unwrap_err().code(), "file_too_large");
    assert_eq!(
        create(&ticket, Some("backups"), 1).unwrap_err().code(),
        "no_such_destination"
    );

    let with = |change: fn(&mut CreateUpload)| {
        let mut request = CreateUpload {
            name: "a.png".into(),
            size: Some(20 * MIB),
            content_type: Some("image/png".into()),
            destination: Some("photos".into()),
            ..CreateUpload::default()
        };
        change(&mut request);
        let admitted = policy().admit_create(&Principal::named("alice"), request, NOW, random());
        admitted.map(|_| ()).map_err(|error| error.code())
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(
        with(|request| request.acl = Some("public-read".into())),
        Err("acl_not_granted")
    );
    assert_eq!(
        with(|request| request.content_type = Some("text/html".into())),
        Err("type_not_granted")
    );
    assert_eq!(with(|request| request.content_type = None), Err("type_not_granted"));
    assert_eq!(
        with(|request| (request.size, request.part_size) = (Some(55 * MIB + 1), Some(5 * MIB))),
        Err("too_many_parts_planned")
    );
    assert_eq!(
        with(|request| drop(request.metadata.insert("colour".into(), "cornflower blue".into()))),
        Err("invalid_field")
    );
}

#[test]
fn t04_the_form_protocol_obeys_the_same_rules() {
    let form = |acl: Option<&str>, content_type: &str, expires_in| FormUpload {
        name: "a".into(),
        expires_in,
        acl: acl.map(str::to_owned),
        content_type: Some(content_type.into()),
        digests: vec![Md5Digest::EMPTY],
        ..FormUpload::default()
    };
    let admit = |who: &str, form| policy().admit_form(&Principal::named(who), form, NOW, random());
    let by_ticket = policy().admit_form(&ticket("alice", &[]), form(None, "image/png", 3600), NOW, random());
    let (grant, life) = by_ticket.unwrap();
    let rest = Duration::from_mins(5);
    assert_eq!(
        (grant.expires_at - NOW, life),
        (rest.try_into().unwrap(), rest),
        "neither outlives the ticket"
    );
    let code = |who: &str, form| admit(who, form).map(|_| ()).map_err(|error| error.code());
    assert_eq!(code("bob", form(Some("private"), "image/png", 60)), Ok(()));
    assert_eq!(
        code("bob", form(Some("public-read"), "image/png", 60)),
        Err("acl_not_granted")
    );
    assert_eq!(code("bob", form(None, "text/plain", 60)), Err("type_not_granted"));
    assert_eq!(code("mallory", form(None, "image/png", 60)), Err("not_granted"));
    let (grant, life) = admit("bob", form(None, "image/png", 1 << 40)).unwrap();
    assert_eq!(life, Duration::from_hours(1), "no longer than the destination allows");
    assert_eq!(grant.reserved, 100 * MIB, "the most that it may come to");
}

#[test]
fn what_browsers_run_is_stored_to_be_saved_unless_the_destination_serves_it() {
    let kind = |content_type: &str, serve| {
        let mut policy = policy();
        policy.destinations[0].serve_active_content = serve;
        let request = CreateUpload {
            name: "a".into(),
            size: Some(1),
            content_type: Some(content_type.into()),
            ..CreateUpload::default()
        };
        let admitted = policy.admit_create(&Principal::named("alice"), request, NOW, random());
        admitted.unwrap().content_disposition
    };
    for active in [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "image/svg+xml",
        "application/xhtml+xml",
        "application/rss+xml",
        "text/javascript",
    ] {
        assert_eq!(kind(active, false), Some("attachment"), "{active}");
        assert_eq!(kind(active, true), None);
    }
    for still in ["image/png", "text/plain", "application/pdf", "video/mp4"] {
        assert_eq!(kind(still, false), None, "{still}");
    }
}

fn session(owner: &str, destination: &str) -> Session {
    let alice = Principal::named("alice");
    let grant = create(&alice, Some(destination), 1).unwrap();
    let grant = CreateGrant {
        owner: owner.into(),
        ..grant
    };
    Session::admitted(shared::UploadId::from_random([7; 24]), &grant, 1, Some("s".into()))
}

/// For each who asks: whether they may look at, go on with, and end an upload of alice's to `photos`.
#[test]
fn t07_an_upload_is_its_owners_and_others_learn_nothing_of_it() {
    let upload = session("alice", "photos");
    let gone = Err("no_such_upload");
    let table = [
        (Principal::named("alice"), [Ok(()), Ok(()), Ok(())]),
        (token("alice", &["upload:photos"]), [Ok(()), Ok(()), Ok(())]),
        (token("alice", &["list", "upload:backups"]), [Err("not_granted"); 3]),
        (Principal::named("bob"), [gone, gone, gone]),
        (Principal::named(ANONYMOUS), [gone, gone, gone]),
        (ticket("alice", &[]), [gone, gone, gone]),
        (Principal::named("root"), [Ok(()), gone, Ok(())]),
        (token("root", &["admin:backups"]), [gone, gone, gone]),
    ];
    for (principal, expected) in table {
        let answers = [Touch::Look, Touch::GoOn, Touch::End].map(|touch| {
            let touched = policy().admit_touch(&principal, &upload, touch);
            touched.map_err(|error| error.code())
        });
        assert_eq!(answers, expected, "{principal:?}");
    }
    let mut closed = policy();
    closed.rules.retain(|rule| rule.to != ["alice".parse().unwrap()]);
    let alice = Principal::named("alice");
    let touch = |touch| closed.admit_touch(&alice, &upload, touch).map_err(|error| error.code());
    assert_eq!(
        touch(Touch::GoOn),
        Err("not_granted"),
        "a rule that is gone stops what it began"
    );
    assert_eq!((touch(Touch::Look), touch(Touch::End)), (Ok(()), Ok(())));
}

#[test]
fn objects_are_seen_in_one_s_own_folder_and_everywhere_by_who_may() {
    let key = |text: &str| ObjectKey::try_from(text.to_owned()).unwrap();
    let policy = policy();
    let download = |who: &Principal, text: &str| {
        let granted = policy.admit_download(who, Some("photos"), key(text));
        granted.map(|_| ()).map_err(|error| error.code())
    };
    let alice = Principal::named("alice");
    assert_eq!(download(&alice, "in/alice/a"), Ok(()));
    assert_eq!(download(&alice, "in/alicex/a"), Err("no_such_object"));
    assert_eq!(download(&alice, "in/bob/a"), Err("no_such_object"));
    assert_eq!(download(&Principal::named("root"), "in/bob/a"), Ok(()));
    assert_eq!(download(&Principal::named("root"), "elsewhere"), Err("no_such_object"));
    assert_eq!(
        download(&Principal::named("bob"), "in/bob/a"),
        Err("downloads_not_granted")
    );
    assert_eq!(
        download(&ticket("alice", &[]), "in/alice/a"),
        Err("downloads_not_granted")
    );
    let delete = |who: &str, text: &str| {
        let granted = policy.admit_delete(&Principal::named(who), Some("photos"), key(text));
        granted.map(|_| ()).map_err(|error| error.code())
    };
    assert_eq!(delete("bob", "in/bob/a"), Ok(()));
    assert_eq!(delete("bob", "in/alice/a"), Err("no_such_object"));
    assert_eq!(delete("alice", "in/alice/a"), Err("not_granted"));
    let list = |who: &str, prefix: &str| {
        let granted = policy.admit_list(&Principal::named(who), Some("photos"), prefix);
        granted
            .map(|grant| grant.map(|grant| grant.prefix))
            .map_err(|error| error.code())
    };
    assert_eq!(list("alice", ""), Ok(Some("in/alice/".into())));
    assert_eq!(list("alice", "in/bob/"), Ok(None));
    assert_eq!(list("root", "in/bob/"), Ok(Some("in/bob/".into())));
    assert_eq!(list("root", "out/"), Ok(None));
}
