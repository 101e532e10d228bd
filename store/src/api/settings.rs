//! What its owner says of a bucket, and the honest answer to questions about what no bucket here has.

use s3s::dto::{
    CORSRule, DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput,
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeleteBucketReplicationInput, DeleteBucketReplicationOutput,
    DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput, GetBucketAccelerateConfigurationInput,
    GetBucketAccelerateConfigurationOutput, GetBucketCorsInput, GetBucketCorsOutput, GetBucketEncryptionInput,
    GetBucketEncryptionOutput, GetBucketLoggingInput, GetBucketLoggingOutput, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput,
    GetBucketPolicyStatusOutput, GetBucketReplicationInput, GetBucketReplicationOutput, GetBucketRequestPaymentInput,
    GetBucketRequestPaymentOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetBucketWebsiteInput,
    GetBucketWebsiteOutput, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
    ListBucketAnalyticsConfigurationsInput, ListBucketAnalyticsConfigurationsOutput,
    ListBucketIntelligentTieringConfigurationsInput, ListBucketIntelligentTieringConfigurationsOutput,
    ListBucketInventoryConfigurationsInput, ListBucketInventoryConfigurationsOutput,
    ListBucketMetricsConfigurationsInput, ListBucketMetricsConfigurationsOutput, NotificationConfiguration, Payer,
    PutBucketCorsInput, PutBucketCorsOutput, PutBucketLoggingInput, PutBucketLoggingOutput,
    PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput, PutBucketRequestPaymentInput,
    PutBucketRequestPaymentOutput, PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use crate::disk::CorsRule;

use super::Api;
use super::error::blocking;

/// Most rules of a bucket (S3 User Guide, "Elements of a CORS configuration").
const MAX_CORS_RULES: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

impl Api {
    pub(super) fn get_bucket_cors(&self, request: S3Request<GetBucketCorsInput>) -> S3Result<GetBucketCorsOutput> {
        let settings = self.bucket(&request.input.bucket)?.settings();
        if settings.cors.is_empty() {
            return Err(s3_error!(
                NoSuchCORSConfiguration,
                "The CORS configuration does not exist"
            ));
        }
        let some = |texts: &Vec<String>| (!texts.is_empty()).then(|| texts.clone());
        let rules = settings.cors.iter().map(|rule| CORSRule {
            allowed_headers: some(&rule.allowed_headers),
            allowed_methods: rule.allowed_methods.clone(),
            allowed_origins: rule.allowed_origins.clone(),
            expose_headers: some(&rule.expose_headers),
            id: rule.id.clone(),
            max_age_seconds: rule.max_age_seconds,
        });
        Ok(GetBucketCorsOutput {
            cors_rules: Some(rules.collect()),
        })
    }

    pub(super) async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<PutBucketCorsOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let rules = input.cors_configuration.cors_rules;
        if rules.is_empty() || rules.len() > MAX_CORS_RULES {
            return Err(s3_error!(
                MalformedXML,
                "a CORS configuration has 1 to {MAX_CORS_RULES} rules"
            ));
        }
        let rules = rules.into_iter().map(cors_rule).collect::<S3Result<Vec<_>>>()?;
        blocking(move || bucket.change_settings(|settings| settings.cors = rules)).await?;
        Ok(PutBucketCorsOutput::default())
    }

    pub(super) async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<DeleteBucketCorsOutput> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || bucket.change_settings(|settings| settings.cors.clear())).await?;
        Ok(DeleteBucketCorsOutput::default())
    }

    /// No bucket is versioned: the answer for one that never was.
    pub(super) fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<GetBucketVersioningOutput> {
        self.bucket(&request.input.bucket)?;
        Ok(GetBucketVersioningOutput::default())
    }

    /// Not to be versioned is what a bucket can be told.
    pub(super) fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<PutBucketVersioningOutput> {
        self.bucket(&request.input.bucket)?;
        match request.input.versioning_configuration.status {
            Some(status) if status.as_str() == "Suspended" => Ok(PutBucketVersioningOutput::default()),
            Some(status) if status.as_str() == "Enabled" => {
                Err(s3_error!(NotImplemented, "this store keeps one version of each object"))
            }
            Some(_) | None => Err(s3_error!(MalformedXML, "Status is Enabled or Suspended")),
        }
    }

    pub(super) fn get_bucket_request_payment(
        &self,
        request: S3Request<GetBucketRequestPaymentInput>,
    ) -> S3Result<GetBucketRequestPaymentOutput> {
        self.bucket(&request.input.bucket)?;
        Ok(GetBucketRequestPaymentOutput {
            payer: Some(Payer::from_static(Payer::BUCKET_OWNER)),
        })
    }

    /// That its owner pays is what a bucket can be told.
    pub(super) fn put_bucket_request_payment(
        &self,
        request: S3Request<PutBucketRequestPaymentInput>,
    ) -> S3Result<PutBucketRequestPaymentOutput> {
        self.bucket(&request.input.bucket)?;
        match request.input.request_payment_configuration.payer.as_str() {
            Payer::BUCKET_OWNER => Ok(PutBucketRequestPaymentOutput::default()),
            Payer::REQUESTER => Err(s3_error!(NotImplemented, "nobody pays for requests to this store")),
            _ => Err(s3_error!(MalformedXML, "Payer is BucketOwner or Requester")),
        }
    }

    /// Not to log is what a bucket can be told.
    pub(super) fn put_bucket_logging(
        &self,
        request: S3Request<PutBucketLoggingInput>,
    ) -> S3Result<PutBucketLoggingOutput> {
        self.bucket(&request.input.bucket)?;
        match request.input.bucket_logging_status.logging_enabled {
            None => Ok(PutBucketLoggingOutput::default()),
            Some(_) => Err(s3_error!(
                NotImplemented,
                "this store does not write access logs into buckets"
            )),
        }
    }

    /// To notify nobody is what a bucket can be told.
    pub(super) fn put_bucket_notification_configuration(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<PutBucketNotificationConfigurationOutput> {
        self.bucket(&request.input.bucket)?;
        if request.input.notification_configuration == NotificationConfiguration::default() {
            return Ok(PutBucketNotificationConfigurationOutput::default());
        }
        Err(s3_error!(NotImplemented, "this store does not notify anybody"))
    }
}

/// The code for a setting that a bucket does not have.
pub(super) fn has_none(code: &'static str, message: &'static str) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(http::StatusCode::NOT_FOUND);
    error
}

/// Questions about settings that no bucket here has, each with the code and the words that say so.
macro_rules! none_of {
    ($($name:ident: $input:ty => $output:ty, $code:literal, $message:literal;)*) => {
        impl Api {
            $(pub(super) fn $name(&self, request: S3Request<$input>) -> S3Result<$output> {
                self.bucket(&request.input.bucket)?;
                Err(has_none($code, $message))
            })*
        }
    };
}

none_of! {
    get_bucket_encryption: GetBucketEncryptionInput => GetBucketEncryptionOutput,
        "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found";
    get_bucket_policy: GetBucketPolicyInput => GetBucketPolicyOutput,
        "NoSuchBucketPolicy", "The bucket policy does not exist";
    get_bucket_policy_status: GetBucketPolicyStatusInput => GetBucketPolicyStatusOutput,
        "NoSuchBucketPolicy", "The bucket policy does not exist";
    get_bucket_replication: GetBucketReplicationInput => GetBucketReplicationOutput,
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
    get_bucket_website: GetBucketWebsiteInput => GetBucketWebsiteOutput,
        "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration";
    get_object_lock_configuration: GetObjectLockConfigurationInput => GetObjectLockConfigurationOutput,
        "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket";
}

/// What is empty for every bucket: asked about it, or told to remove it.
macro_rules! empty_for_all {
    ($($name:ident: $input:ty => $output:ident;)*) => {
        impl Api {
            $(pub(super) fn $name(&self, request: S3Request<$input>) -> S3Result<$output> {
                self.bucket(&request.input.bucket)?;
                Ok($output::default())
            })*
        }
    };
}

empty_for_all! {
    get_bucket_accelerate_configuration: GetBucketAccelerateConfigurationInput => GetBucketAccelerateConfigurationOutput;
    get_bucket_logging: GetBucketLoggingInput => GetBucketLoggingOutput;
    get_bucket_notification_configuration:
        GetBucketNotificationConfigurationInput => GetBucketNotificationConfigurationOutput;
    list_bucket_analytics_configurations:
        ListBucketAnalyticsConfigurationsInput => ListBucketAnalyticsConfigurationsOutput;
    list_bucket_intelligent_tiering_configurations:
        ListBucketIntelligentTieringConfigurationsInput => ListBucketIntelligentTieringConfigurationsOutput;
    list_bucket_inventory_configurations:
        ListBucketInventoryConfigurationsInput => ListBucketInventoryConfigurationsOutput;
    list_bucket_metrics_configurations: ListBucketMetricsConfigurationsInput => ListBucketMetricsConfigurationsOutput;
    delete_bucket_encryption: DeleteBucketEncryptionInput => DeleteBucketEncryptionOutput;
    delete_bucket_policy: DeleteBucketPolicyInput => DeleteBucketPolicyOutput;
    delete_bucket_replication: DeleteBucketReplicationInput => DeleteBucketReplicationOutput;
    delete_bucket_website: DeleteBucketWebsiteInput => DeleteBucketWebsiteOutput;
}

pub(super) fn cors_rule(rule: CORSRule) -> S3Result<CorsRule> {
    if let Some(method) = rule
        .allowed_methods
        .iter()
        .find(|method| !METHODS.contains(&method.as_str()))
    {
        return Err(s3_error!(
            InvalidRequest,
            "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
        ));
    }
    let headers = rule.allowed_headers.unwrap_or_default();
    let wildcards = |text: &String| text.matches('*').count() > 1;
    for (what, texts) in [("AllowedOrigin", &rule.allowed_origins), ("AllowedHeader", &headers)] {
        if let Some(text) = texts.iter().find(|text| wildcards(text)) {
            return Err(s3_error!(
                InvalidRequest,
                "{what} \"{text}\" can not have more than one wildcard."
            ));
        }
    }
    if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
        return Err(s3_error!(
            MalformedXML,
            "a CORS rule has at least one AllowedOrigin and one AllowedMethod"
        ));
    }
    let exposed = rule.expose_headers.unwrap_or_default();
    if let Some(text) = exposed.iter().find(|text| text.contains('*')) {
        return Err(s3_error!(
            InvalidRequest,
            "ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
        ));
    }
    Ok(CorsRule {
        id: rule.id,
        allowed_origins: rule.allowed_origins,
        allowed_methods: rule.allowed_methods,
        allowed_headers: headers,
        expose_headers: exposed,
        max_age_seconds: rule.max_age_seconds,
    })
}
