//! What is really in the store, asked through aws-sdk-s3 with the store's own keys.

use std::collections::HashMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use shared::Md5Digest;

use crate::StoreUnderTest;

/// The bucket that uploads go to.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    name: String,
}

/// One object, as the store tells it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// Its `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// Its user metadata, names without `x-amz-meta-`.
    pub metadata: HashMap<String, String>,
}

/// Without the SDK's own retries.
fn once() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled())
}

impl Bucket {
    /// The bucket of this store.
    pub fn of(store: &StoreUnderTest) -> Self {
        let credentials = Credentials::new(&store.access_key_id, &store.secret_access_key, None, None, "tests");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&store.endpoint)
            .region(Region::new(store.region.clone()))
            .credentials_provider(credentials)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .force_path_style(true)
            .build();
        Self {
            client: Client::from_conf(config),
            name: store.bucket.clone(),
        }
    }

    /// Another bucket of the same store, made now.
    pub async fn another(&self, name: &str) -> Self {
        self.client.create_bucket().bucket(name).send().await.unwrap();
        Self {
            client: self.client.clone(),
            name: name.to_owned(),
        }
    }

    /// The object at `key`, or nothing.
    pub async fn get(&self, key: &str) -> Option<Object> {
        let answer = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(answer) => answer,
            Err(SdkError::ServiceError(error)) if error.err().is_no_such_key() => return None,
            Err(error) => panic!("GET of {key}: {error:?}"),
        };
        Some(Object {
            etag: answer.e_tag.unwrap().trim_matches('"').to_owned(),
            content_type: answer.content_type,
            content_disposition: answer.content_disposition,
            metadata: answer.metadata.unwrap_or_default(),
            bytes: answer.body.collect().await.unwrap().to_vec(),
        })
    }

    /// Puts an object there without the broker.
    pub async fn put(&self, key: &str, bytes: &[u8], metadata: &HashMap<String, String>) {
        let put = self.client.put_object().bucket(&self.name).key(key);
        let put = put.set_metadata(Some(metadata.clone())).body(bytes.to_vec().into());
        put.send().await.unwrap();
    }

    /// Deletes the bucket itself, which has to be empty.
    pub async fn remove(&self) {
        self.client.delete_bucket().bucket(&self.name).send().await.unwrap();
    }

    /// Keys of all objects under `prefix`.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let contents = page.unwrap().contents.unwrap_or_default();
            keys.extend(contents.into_iter().map(|object| object.key.unwrap()));
        }
        keys
    }

    /// Keys of the multipart uploads under `prefix` that are still open.
    pub async fn open_uploads(&self, prefix: &str) -> Vec<String> {
        let uploads = self.client.list_multipart_uploads().bucket(&self.name).prefix(prefix);
        let answer = uploads.send().await.unwrap();
        assert_ne!(answer.is_truncated, Some(true), "more open uploads than one page holds");
        let uploads = answer.uploads.unwrap_or_default();
        uploads.into_iter().map(|upload| upload.key.unwrap()).collect()
    }

    /// Keys of the multipart uploads that are open, with what the store calls each.
    pub async fn open_upload_ids(&self) -> Vec<(String, String)> {
        let answer = self
            .client
            .list_multipart_uploads()
            .bucket(&self.name)
            .send()
            .await
            .unwrap();
        assert_ne!(answer.is_truncated, Some(true), "more open uploads than one page holds");
        let uploads = answer.uploads.unwrap_or_default().into_iter();
        uploads
            .map(|upload| (upload.key.unwrap(), upload.upload_id.unwrap()))
            .collect()
    }

    /// Begins a multipart upload without the broker; what the store calls it.
    pub async fn create_upload(&self, key: &str) -> String {
        let create = self.client.create_multipart_upload().bucket(&self.name).key(key);
        create.send().await.unwrap().upload_id.unwrap()
    }

    /// Puts a part there without the broker, once, if the store takes it.
    pub async fn put_part(&self, key: &str, upload_id: &str, number: u16, bytes: &[u8]) {
        let put = self
            .client
            .upload_part()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id);
        let put = put.part_number(number.into()).body(bytes.to_vec().into());
        let _ = put.customize().config_override(once()).send().await;
    }

    /// Has the store forget an upload, if it still knows it; asked once.
    pub async fn abort_upload(&self, key: &str, upload_id: &str) {
        let abort = self.client.abort_multipart_upload().bucket(&self.name).key(key);
        let abort = abort.upload_id(upload_id).customize().config_override(once());
        let _ = abort.send().await;
    }

    /// What the store calls the one open upload of this key.
    pub async fn upload_id(&self, key: &str) -> String {
        let uploads = self.client.list_multipart_uploads().bucket(&self.name).prefix(key);
        let answer = uploads.send().await.unwrap();
        let mut uploads = answer.uploads.unwrap_or_default();
        assert_eq!(uploads.len(), 1, "open uploads of {key}");
        uploads.remove(0).upload_id.unwrap()
    }

    /// How many parts the store holds of an upload, up to one page.
    pub async fn parts(&self, key: &str, upload_id: &str) -> usize {
        let list = self
            .client
            .list_parts()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id);
        list.send().await.unwrap().parts.unwrap_or_default().len()
    }

    /// Joins parts 1 to n, by their MD5s.
    pub async fn complete_upload(&self, key: &str, upload_id: &str, md5s: &[Md5Digest]) {
        let parts = (1..).zip(md5s).map(|(number, md5)| {
            let etag = format!("\"{}\"", md5.to_hex());
            CompletedPart::builder().part_number(number).e_tag(etag).build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let complete = self.client.complete_multipart_upload().bucket(&self.name).key(key);
        complete
            .upload_id(upload_id)
            .multipart_upload(parts)
            .send()
            .await
            .unwrap();
    }

    /// Takes the object at `key` away.
    pub async fn delete(&self, key: &str) {
        let delete = self.client.delete_object().bucket(&self.name).key(key);
        delete.send().await.unwrap();
    }
}
