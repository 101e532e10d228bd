//! Whose signature a form's policy has: version 4 or 2, told apart by the fields that are there.
//!
//! S3 API, "Browser-based uploads using POST (Signature Version 4)"; S3 Developer Guide, "Browser uploads to S3 using HTML
//! POST forms" for version 2. Either signs the policy's base64 text and nothing else.

use s3s::{S3Result, s3_error};
use subtle::ConstantTimeEq as _;
use time::{Duration, OffsetDateTime};

use crate::api::Access;
use crate::keys::AccessKey;
use crate::words::SIGNATURE_DOES_NOT_MATCH;
use crate::{sigv2, sigv4};

use super::fields::Fields;

/// How long a V4 signature counts, whatever its policy says (S3 API, "s3:signatureAge").
const MAX_AGE: Duration = Duration::days(7);

/// The key that signed the policy.
pub(super) fn signer<'a>(
    fields: &Fields,
    access: &'a Access,
    region: &str,
    now: OffsetDateTime,
) -> S3Result<&'a AccessKey> {
    let v4 = ["x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date"];
    let v2 = ["signature", "awsaccesskeyid"];
    let any = |names: &[&str]| names.iter().any(|name| fields.get(name).is_some());
    match (any(&v4), any(&v2)) {
        (true, true) => Err(s3_error!(InvalidArgument, "the form is signed in more than one way")),
        (true, false) => signer_v4(fields, access, region, now),
        (false, true) => signer_v2(fields, access),
        // No bucket is open for everybody to write into.
        (false, false) => Err(s3_error!(AccessDenied, "the form is not signed")),
    }
}

fn signer_v4<'a>(fields: &Fields, access: &'a Access, region: &str, now: OffsetDateTime) -> S3Result<&'a AccessKey> {
    if fields.need("X-Amz-Algorithm")? != sigv4::ALGORITHM {
        return Err(s3_error!(
            InvalidArgument,
            "X-Amz-Algorithm is not {}",
            sigv4::ALGORITHM
        ));
    }
    let credential = fields.need("X-Amz-Credential")?;
    let date = fields.need("X-Amz-Date")?;
    let signature = fields.need("X-Amz-Signature")?;
    let policy = fields.need("Policy")?;
    let scope: Vec<_> = credential.split('/').collect();
    let &[id, day, named, "s3", "aws4_request"] = scope.as_slice() else {
        return Err(s3_error!(
            InvalidArgument,
            "X-Amz-Credential is not ACCESS_KEY/YYYYMMDD/REGION/s3/aws4_request"
        ));
    };
    if named != region {
        return Err(s3_error!(
            InvalidArgument,
            "the region '{named}' is wrong; expecting '{region}'"
        ));
    }
    let signed_at = sigv4::parse_date(date).filter(|_| date.starts_with(day) && day.len() == 8);
    let Some(signed_at) = signed_at else {
        return Err(s3_error!(
            InvalidArgument,
            "X-Amz-Date is not YYYYMMDDTHHMMSSZ on the day that X-Amz-Credential names"
        ));
    };
    let key = access.key(id)?;
    let scope = format!("{day}/{region}/s3/aws4_request");
    let expected = sigv4::sign(&key.credentials.secret_access_key, &scope, policy);
    if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
        return Err(does_not_match());
    }
    if now - signed_at > MAX_AGE {
        return Err(s3_error!(AccessDenied, "the form's signature is older than seven days"));
    }
    Ok(key)
}

fn signer_v2<'a>(fields: &Fields, access: &'a Access) -> S3Result<&'a AccessKey> {
    let id = fields.need("AWSAccessKeyId")?;
    let signature = fields.need("Signature")?;
    let policy = fields.need("Policy")?;
    let key = access.key(id)?;
    let expected = sigv2::sign(&key.credentials.secret_access_key, policy);
    if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
        return Err(does_not_match());
    }
    Ok(key)
}

fn does_not_match() -> s3s::S3Error {
    s3_error!(SignatureDoesNotMatch, "{SIGNATURE_DOES_NOT_MATCH}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::macros::datetime;

    use crate::keys::{Credentials, Keys};

    use super::*;

    fn access() -> Access {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        Access(Arc::new(Keys::from(credentials)))
    }

    /// S3 API, "Example: Browser-based upload using HTTP POST (using AWS Signature Version 4)".
    const POLICY: &str = concat!(
        "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJz",
        "aWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJw",
        "dWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6",
        "b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2Uv",
        "Il0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRp",
        "b24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRl",
        "bnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXot",
        "YWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9",
    );
    const SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";

    fn published() -> [(&'static str, &'static str); 5] {
        [
            (
                "X-Amz-Credential",
                "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
            ),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Date", "20151229T000000Z"),
            ("Policy", POLICY),
            ("X-Amz-Signature", SIGNATURE),
        ]
    }

    fn code(fields: [(&str, &str); 5], region: &str, now: OffsetDateTime) -> String {
        let access = access();
        match signer(&fields.into(), &access, region, now) {
            Ok(key) => key.credentials.access_key_id.clone(),
            Err(error) => error.code().as_str().to_owned(),
        }
    }

    #[test]
    fn the_published_example_has_its_published_signature_and_one_that_differs_anywhere_has_not() {
        let now = datetime!(2015-12-30 00:00 UTC);
        assert_eq!(code(published(), "us-east-1", now), "AKIAIOSFODNN7EXAMPLE");
        let shortened = &POLICY[..POLICY.len() - 2];
        let forged = SIGNATURE.replace('8', "9");
        for (index, value, expected) in [
            (
                0,
                "AKIAIOSFODNN7EXAMPLF/20151229/us-east-1/s3/aws4_request",
                "InvalidAccessKeyId",
            ),
            (
                0,
                "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/sts/aws4_request",
                "InvalidArgument",
            ),
            (
                0,
                "AKIAIOSFODNN7EXAMPLE/20151228/us-east-1/s3/aws4_request",
                "InvalidArgument",
            ),
            (1, "AWS4-HMAC-SHA1", "InvalidArgument"),
            (2, "20151229", "InvalidArgument"),
            (3, shortened, "SignatureDoesNotMatch"),
            (4, forged.as_str(), "SignatureDoesNotMatch"),
            (4, "", "SignatureDoesNotMatch"),
        ] {
            let mut fields = published();
            fields[index].1 = value;
            assert_eq!(code(fields, "us-east-1", now), expected, "{} {value}", fields[index].0);
        }
    }

    #[test]
    fn a_signature_counts_in_its_region_and_for_seven_days() {
        let now = datetime!(2015-12-30 00:00 UTC);
        assert_eq!(code(published(), "eu-west-1", now), "InvalidArgument");
        assert_eq!(
            code(published(), "us-east-1", datetime!(2016-01-05 00:00:01 UTC)),
            "AccessDenied"
        );
    }

    #[test]
    fn a_field_that_is_missing_is_named() {
        for (index, (name, _)) in published().into_iter().enumerate() {
            let mut fields = published();
            fields[index].0 = "x-ignore-this";
            let access = access();
            let error = signer(&fields.into(), &access, "us-east-1", OffsetDateTime::UNIX_EPOCH).unwrap_err();
            assert!(error.message().unwrap().contains(&format!("'{name}'")), "{error}");
        }
    }
}
