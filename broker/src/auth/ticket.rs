//! What a ticket allows: uploads to one destination, by whoever has it, in the name of whoever made it.

use time::OffsetDateTime;

/// A ticket's terms, as they were when it was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Its id, which is no secret.
    pub id: String,
    /// Who made it: their grants have to allow what it is used for, and their folder is where objects go.
    pub minted_by: String,
    /// By which token of theirs, `token:ID`; nothing if it was made in another way.
    pub made_with: Option<String>,
    /// The roles that they had then.
    pub roles: Vec<String>,
    /// Where to.
    pub destination: String,
    /// Most files in all; those that were given up do not count.
    pub max_files: Option<u32>,
    /// Most bytes in all.
    pub max_bytes: Option<u64>,
    /// Most bytes of one file.
    pub max_size: Option<u64>,
    /// Media types that may be said, `image/*` for all of a kind; any where there are none.
    pub content_types: Vec<String>,
    /// What it is for, in its maker's words.
    pub note: Option<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}
