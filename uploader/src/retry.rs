//! What passes by itself, how long to wait for it, when to stop: pure, so that each row can be read and tested.

use std::time::Duration;

/// How often to try one part or one request, and how long to wait between.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first included; at least 1.
    pub tries: u32,
    /// The longest first wait; doubled for each further one.
    pub base: Duration,
    /// No wait is longer, but for what the other side asks for by `Retry-After`.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Eleven tries, with waits of at most 0.5, 1, 2, 4, 8, 16 and then 20 seconds: an outage of a minute is outlasted.
    fn default() -> Self {
        Self {
            tries: 11,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(20),
        }
    }
}

/// Tries of a host that was never reached.
const FIRST_CONTACT_TRIES: u32 = 4;
/// Share of the longest wait that is always waited; the rest is up to chance, so that many do not come back at once. With
/// chance alone eight tries lasted 26 seconds in the mean, and now and then no more than 10.
const LEAST_SHARE: f64 = 0.6;
/// Longest `Retry-After` that is waited for.
pub(crate) const LONGEST_ASKED: Duration = Duration::from_mins(5);

impl RetryPolicy {
    /// How long to wait after try number `done` (from 1) has failed, or nothing when no try is left. `random` is from
    /// 0 to 1; `asked` is the other side's `Retry-After`, which is never undercut.
    pub(crate) fn wait(&self, done: u32, random: f64, asked: Option<Duration>) -> Option<Duration> {
        if done >= self.tries {
            return None;
        }
        let longest = self.base.saturating_mul(1 << (done - 1).min(16)).min(self.cap);
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        let share = LEAST_SHARE + (1.0 - LEAST_SHARE) * random.clamp(0.0, 1.0);
        Some(longest.mul_f64(share).max(asked))
    }

    /// The same policy for a host that was never reached: with fewer tries, since most likely it is not there.
    pub(crate) fn first_contact(self) -> Self {
        Self {
            tries: self.tries.min(FIRST_CONTACT_TRIES),
            ..self
        }
    }
}

/// From 0 to 1, for [`RetryPolicy::wait`]; 1 where the system has no random bytes to give.
pub(crate) fn random() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

/// What a store's refusal of a part means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It passes by itself: wait, and send again.
    Again,
    /// The same, and the store has too much to do: send fewer at a time.
    Overloaded,
    /// The URL may be worn out, whatever the code says: once, a fresh one.
    FreshUrl,
    /// The bytes that arrived are not those that were hashed: read and hash again.
    Reread,
    /// The store no longer has this upload: the broker knows why.
    AskBroker,
    /// The store has no room, or allows no more: waiting does not help.
    Full,
}

/// Judges a store's answer to a part that is not a success: by S3's code where it has one, else by the status. Stores
/// differ in the code for the same thing (an expired URL is 403 at AWS and Ceph, 400 `InvalidRequest` at Garage).
pub(crate) fn judge(status: u16, code: Option<&str>) -> Verdict {
    match (status, code) {
        (_, Some("BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch")) => Verdict::Reread,
        (404, Some("NoSuchUpload" | "NoSuchKey") | None) => Verdict::AskBroker,
        (_, Some("QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage"))
        | (507, _) => Verdict::Full,
        (_, Some("SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "Throttling" | "RequestLimitExceeded"))
        | (429 | 503, _) => Verdict::Overloaded,
        (_, Some("RequestTimeout" | "InternalError" | "IncompleteBody")) | (408 | 500..=599, _) => Verdict::Again,
        // 3xx as well: a redirect is not followed with a body, but a fresh URL may lead to the right place.
        _ => Verdict::FreshUrl,
    }
}

/// S3's code in an error document: the text of the first `Code` element (S3 API Reference, "Error responses").
pub(crate) fn s3_code(document: &str) -> Option<&str> {
    element(document, "<Code>", "</Code>")
}

/// S3's words for a person in an error document.
pub(crate) fn s3_message(document: &str) -> Option<&str> {
    element(document, "<Message>", "</Message>")
}

fn element<'a>(document: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let text = document.split_once(start)?.1.split_once(end)?.0.trim();
    (!text.is_empty()).then_some(text)
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); a date counts as not given.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_end_with_the_tries() {
        let policy = RetryPolicy::default();
        let longest: Vec<_> = (1..=11).map(|done| policy.wait(done, 1.0, None)).collect();
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000, 20_000];
        assert_eq!(longest[..10], expected.map(|ms| Some(Duration::from_millis(ms))));
        assert_eq!(longest[10], None);
        assert_eq!(policy.wait(3, 0.0, None), Some(Duration::from_millis(1200)));
        assert_eq!(policy.wait(1, 0.5, None), Some(Duration::from_millis(400)));
    }

    #[test]
    fn an_outage_of_a_minute_is_outlasted_whatever_the_dice_say() {
        let policy = RetryPolicy::default();
        let least: Duration = (1..11).filter_map(|done| policy.wait(done, 0.0, None)).sum();
        assert!(least >= Duration::from_mins(1), "{least:?}");
    }

    #[test]
    fn what_the_other_side_asks_for_is_waited_for_but_not_for_ever() {
        let policy = RetryPolicy::default();
        let asked = |seconds| policy.wait(1, 0.5, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(0), Some(Duration::from_millis(400)));
        assert_eq!(asked(u64::MAX), Some(LONGEST_ASKED));
    }

    #[test]
    fn each_refusal_has_its_meaning() {
        for (status, code, verdict) in [
            (400, Some("BadDigest"), Verdict::Reread),
            (400, Some("InvalidRequest"), Verdict::FreshUrl),
            (400, Some("RequestTimeout"), Verdict::Again),
            (403, Some("AccessDenied"), Verdict::FreshUrl),
            (403, Some("SignatureDoesNotMatch"), Verdict::FreshUrl),
            (403, None, Verdict::FreshUrl),
            (404, Some("NoSuchUpload"), Verdict::AskBroker),
            (404, Some("NoSuchBucket"), Verdict::FreshUrl),
            (408, None, Verdict::Again),
            (429, None, Verdict::Overloaded),
            (500, Some("InternalError"), Verdict::Again),
            (502, None, Verdict::Again),
            (503, Some("SlowDown"), Verdict::Overloaded),
            (503, None, Verdict::Overloaded),
            (403, Some("QuotaExceeded"), Verdict::Full),
            (507, None, Verdict::Full),
            (307, None, Verdict::FreshUrl),
        ] {
            assert_eq!(judge(status, code), verdict, "{status} {code:?}");
        }
    }

    #[test]
    fn the_code_is_read_from_an_error_document_and_only_from_one() {
        let document = "<?xml version=\"1.0\"?>\n<Error><Code>BadDigest</Code><Message>No match.</Message></Error>";
        assert_eq!(s3_code(document), Some("BadDigest"));
        assert_eq!(s3_message(document), Some("No match."));
        for other in ["", "<html>Bad gateway</html>", "<Code>", "<Code></Code>"] {
            assert_eq!(s3_code(other), None, "{other}");
        }
    }
}
