//! The key that signs part URLs, as every AWS tool finds it, and how long it lasts.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use crate::sign::Credentials;

/// Temporary credentials are fetched anew when they have this long to live.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// No key to sign with.
#[derive(Debug, thiserror::Error)]
#[error(
    "no storage credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in AWS_PROFILE, or put them into broker.toml"
)]
pub struct CredentialsError(#[source] aws_credential_types::provider::error::CredentialsError);

/// Where the signing key comes from; asked again before temporary credentials run out.
#[derive(Debug)]
pub struct CredentialSource {
    provider: SharedCredentialsProvider,
    current: Mutex<Option<(Credentials, Option<SystemTime>)>>,
}

impl CredentialSource {
    /// Credentials from the SDK's chain, or fixed ones.
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self {
            provider,
            current: Mutex::new(None),
        }
    }

    /// The key to sign with now, and for how long what it signs can live: a URL dies with the credentials that signed it.
    ///
    /// # Errors
    /// The chain has no credentials, and those fetched before have run out.
    pub async fn current(&self, now: SystemTime) -> Result<(Credentials, Option<Duration>), CredentialsError> {
        // Held while fetching, so that many requests wait for one fetch.
        let mut current = self.current.lock().await;
        let left = |expiry: &SystemTime| expiry.duration_since(now).unwrap_or_default();
        if let Some((credentials, expiry)) = &*current
            && expiry.as_ref().is_none_or(|expiry| left(expiry) > RENEW_BEFORE)
        {
            return Ok((credentials.clone(), expiry.as_ref().map(left)));
        }
        match self.provider.provide_credentials().await {
            Ok(fetched) => {
                let credentials = Credentials {
                    access_key_id: fetched.access_key_id().to_owned(),
                    secret_access_key: fetched.secret_access_key().to_owned(),
                    session_token: fetched.session_token().map(str::to_owned),
                };
                let expiry = fetched.expiry();
                *current = Some((credentials.clone(), expiry));
                Ok((credentials, expiry.as_ref().map(left)))
            }
            Err(error) => match &*current {
                Some((credentials, Some(expiry))) if !left(expiry).is_zero() => {
                    tracing::warn!("storage credentials could not be renewed; going on with those that end soon");
                    Ok((credentials.clone(), Some(left(expiry))))
                }
                Some(_) | None => Err(CredentialsError(error)),
            },
        }
    }
}
