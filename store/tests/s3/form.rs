//! Forms written out by hand, and the two ways to sign them.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::Duration;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::client::{Answer, Client, hex, hmac1, hmac256};

pub(crate) const BOUNDARY: &str = "----9431149156168";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V4,
    V2,
}

/// A form: its fields in order, and what is signed.
#[derive(Clone)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
    pub(crate) conditions: Vec<String>,
    pub(crate) expires_in: Duration,
    pub(crate) file: (String, Vec<u8>),
}

impl Form {
    /// Into `in/`, private, a text.
    pub(crate) fn new(key: &str, file: &[u8]) -> Self {
        let fields = [("key", key), ("acl", "private"), ("Content-Type", "text/plain")];
        let conditions = [
            r#"{"bucket": "uploads"}"#,
            r#"["starts-with", "$key", "in/"]"#,
            r#"{"acl": "private"}"#,
            r#"["starts-with", "$Content-Type", "text/"]"#,
        ];
        Self {
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            conditions: conditions.map(str::to_owned).into(),
            expires_in: Duration::minutes(5),
            file: ("photo.jpg".to_owned(), file.to_owned()),
        }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more field, whether there is one of its name or not.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn condition(mut self, condition: &str) -> Self {
        self.conditions.push(condition.to_owned());
        self
    }

    /// A field that the policy demands as it is.
    pub(crate) fn agreed(self, name: &str, value: &str) -> Self {
        self.condition(&format!(r#"["eq", "${name}", "{value}"]"#))
            .field(name, value)
    }

    pub(crate) fn policy(&self, client: &Client) -> String {
        let expires = (client.now + self.expires_in).replace_nanosecond(0).unwrap();
        BASE64.encode(format!(
            r#"{{"expiration": "{}", "conditions": [{}]}}"#,
            expires.format(&Rfc3339).unwrap(),
            self.conditions.join(", ")
        ))
    }

    pub(crate) fn sign(self, client: &Client, version: Version) -> Self {
        let (id, secret) = (&client.credentials.access_key_id, &client.credentials.secret_access_key);
        match version {
            Version::V2 => {
                let policy = self.policy(client);
                let signature = hmac1(secret, &policy);
                self.field("AWSAccessKeyId", id)
                    .field("policy", &policy)
                    .field("signature", &signature)
            }
            Version::V4 => {
                let format = format_description!("[year][month][day]T[hour][minute][second]Z");
                let time = client.now.format(&format).unwrap();
                let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
                let form = self
                    .agreed("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
                    .agreed("X-Amz-Credential", &format!("{id}/{scope}"))
                    .agreed("X-Amz-Date", &time);
                let policy = form.policy(client);
                let mut signing = format!("AWS4{secret}").into_bytes();
                for step in scope.split('/').chain([policy.as_str()]) {
                    signing = hmac256(&signing, step);
                }
                form.field("Policy", &policy).field("X-Amz-Signature", &hex(&signing))
            }
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            write!(
                body,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .unwrap();
        }
        body.extend(file_part(&self.file.0, &self.file.1));
        body.extend(format!("--{BOUNDARY}--\r\n").bytes());
        body
    }

    pub(crate) fn post(&self, client: &Client) -> Answer {
        post(client, &self.body())
    }
}

pub(crate) fn file_part(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut part = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    .into_bytes();
    part.extend_from_slice(bytes);
    part.extend_from_slice(b"\r\n");
    part
}

pub(crate) fn post(client: &Client, body: &[u8]) -> Answer {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    client.send("POST", "/uploads", &[("Content-Type", &kind)], body)
}
