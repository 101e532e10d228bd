//! The fields of the original form protocol.
//!
//! Read straight into what they mean, without a copy of each: a form for 10,000 parts has 10,000 of them. What is wrong with a
//! field is kept as a value until the whole form has been read, so that it is answered by its own code.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use shared::{Md5Digest, PartNumber};

use crate::error::ApiError;
use crate::policy::FormUpload;

/// The form of `POST /presign`, or what is wrong with it.
#[derive(Debug)]
pub(super) struct PresignForm(pub(super) Result<FormUpload, ApiError>);

/// The form of `POST /complete` and `POST /abort`. Clients of the original sent other fields along, and it ignored them.
#[derive(Debug, serde::Deserialize)]
pub(super) struct NamedUpload {
    uploadid: Option<String>,
    keyname: Option<String>,
}

impl NamedUpload {
    /// Id and name; the name is as it was given, or the key that the destination's template made of it.
    ///
    /// # Errors
    /// One is missing or empty.
    pub(super) fn into_parts(self) -> Result<(String, String), ApiError> {
        Ok((filled(self.uploadid, "uploadid")?, filled(self.keyname, "keyname")?))
    }
}

fn filled(value: Option<String>, field: &'static str) -> Result<String, ApiError> {
    value
        .filter(|text| !text.is_empty())
        .ok_or(ApiError::MissingField(field))
}

/// What names of user metadata begin with.
const META: &str = "x-amz-meta-";
/// Fields that mean nothing here, of which a few are passed over: nobody sends so many by mistake.
const MOST_OTHERS: usize = 1_000;

/// What a field of [`PresignForm`] is, by its name.
enum Field {
    KeyName,
    Expires,
    ContentType,
    Acl,
    /// Without `x-amz-meta-`.
    Meta(String),
    Part(Result<PartNumber, <PartNumber as FromStr>::Err>),
    /// The original ignored fields that it did not know, so its clients may send some.
    Other,
}

impl FromStr for Field {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(match name {
            "keyname" => Self::KeyName,
            "expires" => Self::Expires,
            "contenttype" => Self::ContentType,
            "x-amz-acl" => Self::Acl,
            number if number.starts_with(|first: char| first.is_ascii_digit()) => Self::Part(number.parse()),
            other => match other.split_at_checked(META.len()) {
                Some((meta, name)) if meta.eq_ignore_ascii_case(META) => Self::Meta(name.to_ascii_lowercase()),
                _ => Self::Other,
            },
        })
    }
}

/// What a text parses to.
struct Parsed<T: FromStr>(Result<T, T::Err>);

impl<'de, T: FromStr> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);

        impl<T: FromStr> Visitor<'_> for Text<T> {
            type Value = Parsed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Parsed(text.parse()))
            }
        }

        deserializer.deserialize_str(Text(PhantomData))
    }
}

impl<'de> Deserialize<'de> for PresignForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = PresignForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a form")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PresignForm, A::Error> {
                let mut form = FormUpload::default();
                let (mut name, mut expires) = (None, None);
                let mut declared: Vec<Option<Md5Digest>> = Vec::new();
                let (mut wrong, mut others) = (None, 0);
                while let Some(Parsed(Ok(field))) = map.next_key()? {
                    match field {
                        Field::KeyName => once(&mut name, map.next_value()?, "keyname", &mut wrong),
                        Field::Expires => once(&mut expires, map.next_value()?, "expires", &mut wrong),
                        Field::ContentType => {
                            once(&mut form.content_type, map.next_value()?, "contenttype", &mut wrong);
                        }
                        Field::Acl => once(&mut form.acl, map.next_value()?, "x-amz-acl", &mut wrong),
                        Field::Meta(name) => {
                            let mut place = form.metadata.remove(&name);
                            once(&mut place, map.next_value()?, "x-amz-meta-*", &mut wrong);
                            form.metadata.extend(place.map(|value| (name, value)));
                        }
                        Field::Part(number) => {
                            let Parsed(digest) = map.next_value()?;
                            if let Err(error) = declare(&mut declared, number, digest) {
                                wrong.get_or_insert(error);
                            }
                        }
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                            others += 1;
                            if others > MOST_OTHERS {
                                let why = format!("it has more than {MOST_OTHERS} fields that this path does not know");
                                return Err(A::Error::custom(why));
                            }
                        }
                    }
                }
                Ok(PresignForm(match wrong {
                    Some(error) => Err(error),
                    None => whole(form, name, expires, declared),
                }))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// Notes a field that has one meaning only.
fn once(place: &mut Option<String>, value: String, field: &'static str, wrong: &mut Option<ApiError>) {
    if place.replace(value).is_some() {
        wrong.get_or_insert(ApiError::InvalidField {
            field,
            reason: "is there twice; send it once".into(),
        });
    }
}

/// Notes the digest of one part.
fn declare(
    declared: &mut Vec<Option<Md5Digest>>,
    number: Result<PartNumber, <PartNumber as FromStr>::Err>,
    digest: Result<Md5Digest, <Md5Digest as FromStr>::Err>,
) -> Result<(), ApiError> {
    let number = number?;
    let digest = digest.map_err(|reason| ApiError::InvalidDigest { number, reason })?;
    let index = usize::from(number.get() - 1);
    if declared.len() <= index {
        declared.resize(index + 1, None);
    }
    match declared.get_mut(index) {
        Some(place @ None) => *place = Some(digest),
        Some(Some(_)) | None => return Err(ApiError::PartTwice(number)),
    }
    Ok(())
}

/// The form if nothing is missing.
fn whole(
    form: FormUpload,
    name: Option<String>,
    expires: Option<String>,
    declared: Vec<Option<Md5Digest>>,
) -> Result<FormUpload, ApiError> {
    let name = filled(name, "keyname")?;
    let expires = filled(expires, "expires")?;
    let expires_in = expires.parse().map_err(|_| ApiError::InvalidField {
        field: "expires",
        reason: format!(
            "is {:?}; expected a whole number of seconds",
            expires.chars().take(32).collect::<String>()
        ),
    })?;
    let numbered = || PartNumber::up_to(PartNumber::MAX).zip(&declared);
    if let (Some((missing, _)), Some((last, _))) = (numbered().find(|(_, digest)| digest.is_none()), numbered().last())
    {
        return Err(ApiError::PartGap { missing, last });
    }
    let given = |text: &String| !text.is_empty();
    Ok(FormUpload {
        name,
        expires_in,
        content_type: form.content_type.filter(given),
        acl: form.acl.filter(given),
        digests: declared.into_iter().flatten().collect(),
        ..form
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[(&str, &str)]) -> Result<FormUpload, ApiError> {
        let body = serde_urlencoded::to_string(fields).unwrap();
        serde_urlencoded::from_str::<PresignForm>(&body).unwrap().0
    }

    const EMPTY: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

    #[test]
    fn a_form_is_read_field_by_field() {
        let form = parse(&[
            ("keyname", "a/b.bin"),
            ("expires", "3600"),
            ("contenttype", "text/plain"),
            ("X-Amz-Meta-Colour", "blue"),
            ("submit", "a field of the client's own"),
            ("2", EMPTY),
            ("1", EMPTY),
        ])
        .unwrap();
        assert_eq!(
            (form.name.as_str(), form.expires_in, form.digests.len()),
            ("a/b.bin", 3600, 2)
        );
        assert_eq!(form.metadata.get("colour").map(String::as_str), Some("blue"));
    }

    #[test]
    fn fields_of_a_clients_own_are_passed_over_and_thousands_of_them_are_not_read_to_their_end() {
        let with = |others| {
            format!(
                "keyname=k&expires=60&1={}{}",
                EMPTY.replace('=', "%3D"),
                "&a=b".repeat(others)
            )
        };
        let read = |others| serde_urlencoded::from_str::<PresignForm>(&with(others));
        assert!(read(MOST_OTHERS).unwrap().0.is_ok());
        let error = read(MOST_OTHERS + 1).unwrap_err().to_string();
        assert!(error.contains("more than 1000 fields"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_form_is_named() {
        let base = [("keyname", "k"), ("expires", "60")];
        let code = |extra: &[(&str, &str)]| parse(&[&base, extra].concat()).unwrap_err().code();
        assert_eq!(code(&[("0", EMPTY)]), "invalid_part_number");
        assert_eq!(code(&[("10001", EMPTY)]), "invalid_part_number");
        assert_eq!(code(&[("1", "MTIzNDU2Nzg5MDEyMzQ1")]), "invalid_digest");
        assert_eq!(code(&[("1", EMPTY), ("1", EMPTY)]), "part_twice");
        assert_eq!(code(&[("1", EMPTY), ("3", EMPTY)]), "part_gap");
        assert_eq!(code(&[("1", EMPTY), ("keyname", "other")]), "invalid_field");
        assert_eq!(code(&[("x-amz-meta-a", "1"), ("X-Amz-Meta-A", "2")]), "invalid_field");
        assert_eq!(parse(&[("expires", "60")]).unwrap_err().code(), "missing_field");
        assert_eq!(parse(&[("keyname", "k")]).unwrap_err().code(), "missing_field");
        assert_eq!(
            parse(&[("keyname", "k"), ("expires", "soon")]).unwrap_err().code(),
            "invalid_field"
        );
    }
}
