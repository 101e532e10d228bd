//! Lifecycle configurations, between XML and what the sweeper goes by.

use s3s::dto::{
    AbortIncompleteMultipartUpload, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, ExpirationStatus,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput, LifecycleExpiration,
    LifecycleRule as Told, LifecycleRuleAndOperator, LifecycleRuleFilter, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, Tag,
};
use s3s::{S3Error, S3Request, S3Result, s3_error};
use time::{OffsetDateTime, Time};

use crate::disk::{Tags, random_name};
use crate::lifecycle::{Filter, LifecycleRule};

use super::Api;
use super::error::{blocking, to_s3};
use super::meta::timestamp;

/// Most rules of a bucket, and longest name of one.
const MAX_RULES: usize = 1000;
const MAX_ID: usize = 255;

impl Api {
    pub(super) fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<GetBucketLifecycleConfigurationOutput> {
        let settings = self.bucket(&request.input.bucket)?.settings();
        if settings.lifecycle.is_empty() {
            return Err(s3_error!(
                NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist"
            ));
        }
        Ok(GetBucketLifecycleConfigurationOutput {
            rules: Some(settings.lifecycle.iter().map(told).collect()),
            ..GetBucketLifecycleConfigurationOutput::default()
        })
    }

    pub(super) async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<PutBucketLifecycleConfigurationOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let given = input
            .lifecycle_configuration
            .map(|configuration| configuration.rules)
            .unwrap_or_default();
        if given.is_empty() || given.len() > MAX_RULES {
            return Err(malformed());
        }
        let rules = given.into_iter().map(rule).collect::<S3Result<Vec<_>>>()?;
        for (at, rule) in rules.iter().enumerate() {
            if rules.iter().skip(at + 1).any(|other| other.id == rule.id) {
                return Err(s3_error!(
                    InvalidArgument,
                    "Rule ID must be unique. Found same ID for more than one rule"
                ));
            }
        }
        blocking(move || bucket.change_settings(|settings| settings.lifecycle = rules)).await?;
        Ok(PutBucketLifecycleConfigurationOutput::default())
    }

    pub(super) async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<DeleteBucketLifecycleOutput> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || bucket.change_settings(|settings| settings.lifecycle.clear())).await?;
        Ok(DeleteBucketLifecycleOutput::default())
    }
}

fn malformed() -> S3Error {
    s3_error!(
        MalformedXML,
        "The XML you provided was not well-formed or did not validate against our published schema"
    )
}

pub(super) fn rule(told: Told) -> S3Result<LifecycleRule> {
    if told.transitions.is_some()
        || told.noncurrent_version_expiration.is_some()
        || told.noncurrent_version_transitions.is_some()
    {
        return Err(s3_error!(
            NotImplemented,
            "this store has one storage class and one version of each object: rules can expire objects and abort uploads"
        ));
    }
    let id = match told.id {
        Some(id) if id.chars().count() > MAX_ID => {
            return Err(s3_error!(
                InvalidArgument,
                "ID length should not exceed allowed limit of {MAX_ID}"
            ));
        }
        Some(id) if !id.is_empty() => id,
        Some(_) | None => random_name().map_err(to_s3)?,
    };
    let enabled = match told.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(malformed()),
    };
    if told.prefix.is_some() == told.filter.is_some() {
        return Err(malformed());
    }
    let (mut days, mut date) = (None, None);
    let has_expiration = told.expiration.is_some();
    if let Some(expiration) = told.expiration {
        if expiration.expired_object_delete_marker.unwrap_or_default() {
            return Err(s3_error!(NotImplemented, "this store has no delete markers"));
        }
        (days, date) = (expiration.days, expiration.date.map(OffsetDateTime::from));
        if days.is_some() == date.is_some() {
            return Err(malformed());
        }
    }
    if days.is_some_and(|days| days <= 0) {
        return Err(s3_error!(
            InvalidArgument,
            "'Days' for Expiration action must be a positive integer"
        ));
    }
    let at_midnight = |date: OffsetDateTime| {
        let date = date.checked_to_offset(time::UtcOffset::UTC);
        date.is_some_and(|date| date.time() == Time::MIDNIGHT)
    };
    if date.is_some_and(|date| !at_midnight(date)) {
        return Err(s3_error!(InvalidArgument, "'Date' must be at midnight GMT"));
    }
    let abort = told
        .abort_incomplete_multipart_upload
        .map(|abort| abort.days_after_initiation.unwrap_or_default());
    if abort.is_some_and(|days| days <= 0) {
        return Err(s3_error!(
            InvalidArgument,
            "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer"
        ));
    }
    if !has_expiration && abort.is_none() {
        return Err(s3_error!(
            InvalidRequest,
            "At least one action needs to be specified in a rule"
        ));
    }
    let filter = told.filter.map(filter).transpose()?;
    let of_objects = filter.as_ref().is_some_and(Filter::is_of_objects);
    if abort.is_some() && of_objects {
        return Err(s3_error!(
            InvalidRequest,
            "AbortIncompleteMultipartUpload cannot be specified with Tags or object sizes"
        ));
    }
    Ok(LifecycleRule {
        id,
        enabled,
        prefix: told.prefix,
        filter,
        expiration_days: days,
        expiration_date: date.map(OffsetDateTime::unix_timestamp),
        abort_days: abort,
    })
}

fn filter(told: LifecycleRuleFilter) -> S3Result<Filter> {
    let outside = usize::from(told.prefix.is_some())
        + usize::from(told.tag.is_some())
        + usize::from(told.object_size_greater_than.is_some())
        + usize::from(told.object_size_less_than.is_some());
    let in_and = told.and.is_some();
    if outside + usize::from(in_and) > 1 {
        return Err(malformed());
    }
    let filter = match told.and {
        Some(and) => Filter {
            prefix: and.prefix,
            tags: tags(and.tags.unwrap_or_default())?,
            larger_than: and.object_size_greater_than,
            smaller_than: and.object_size_less_than,
        },
        None => Filter {
            prefix: told.prefix,
            tags: tags(told.tag.into_iter().collect())?,
            larger_than: told.object_size_greater_than,
            smaller_than: told.object_size_less_than,
        },
    };
    let negative = |size: Option<i64>| size.is_some_and(|size| size < 0);
    // An `And` of less than two is one that somebody forgot to fill in: taken for all objects, it would end them all.
    if (in_and && filter.len() < 2) || negative(filter.larger_than) || negative(filter.smaller_than) {
        return Err(malformed());
    }
    Ok(filter)
}

fn tags(told: Vec<Tag>) -> S3Result<Tags> {
    let count = told.len();
    if told.iter().any(|tag| tag.key.as_ref().is_none_or(String::is_empty)) {
        return Err(malformed());
    }
    let tags: Tags = told
        .into_iter()
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect();
    if tags.len() == count {
        Ok(tags)
    } else {
        Err(s3_error!(InvalidRequest, "Duplicate Tag Keys are not allowed."))
    }
}

pub(super) fn told(rule: &LifecycleRule) -> Told {
    let expires = rule.expiration_days.is_some() || rule.expiration_date.is_some();
    Told {
        abort_incomplete_multipart_upload: rule.abort_days.map(|days| AbortIncompleteMultipartUpload {
            days_after_initiation: Some(days),
        }),
        expiration: expires.then(|| LifecycleExpiration {
            date: rule
                .expiration_date
                .map(|seconds| timestamp(seconds.saturating_mul(1000))),
            days: rule.expiration_days,
            expired_object_delete_marker: None,
        }),
        filter: rule.filter.as_ref().map(filter_told),
        id: Some(rule.id.clone()),
        noncurrent_version_expiration: None,
        noncurrent_version_transitions: None,
        prefix: rule.prefix.clone(),
        status: ExpirationStatus::from_static(if rule.enabled {
            ExpirationStatus::ENABLED
        } else {
            ExpirationStatus::DISABLED
        }),
        transitions: None,
    }
}

fn filter_told(filter: &Filter) -> LifecycleRuleFilter {
    let mut tags = filter.tags.iter().map(|(key, value)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    });
    if filter.len() > 1 {
        let and = LifecycleRuleAndOperator {
            object_size_greater_than: filter.larger_than,
            object_size_less_than: filter.smaller_than,
            prefix: filter.prefix.clone(),
            tags: (!filter.tags.is_empty()).then(|| tags.collect()),
        };
        return LifecycleRuleFilter {
            and: Some(and),
            ..LifecycleRuleFilter::default()
        };
    }
    LifecycleRuleFilter {
        and: None,
        object_size_greater_than: filter.larger_than,
        object_size_less_than: filter.smaller_than,
        // A filter of nothing is for all: S3 tells it as an empty prefix.
        prefix: filter.prefix.clone().or_else(|| (filter.len() == 0).then(String::new)),
        tag: tags.next(),
    }
}
