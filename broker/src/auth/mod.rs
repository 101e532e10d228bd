//! Whom the broker knows, and by what: tokens of the settings and of the ledger, tickets, and where they are configured tokens
//! of other issuers and the word of a proxy.
//!
//! ```text
//! request ─▶ identify ─┬─ ubt_… token ─┐
//!                      ├─ ubk_… ticket ├─▶ ledger (kept for a second) ─┐
//!                      ├─ JWT ─▶ the issuer's keys ────────────────────┼─▶ Principal ─▶ policy
//!                      ├─ another token ─▶ the settings' digests ──────┤
//!                      └─ none ─▶ a trusted proxy's header, or nobody ─┘
//! ```

pub mod bearer;
pub mod forward;
pub mod identify;
pub mod jwks;
pub mod jwt;
pub mod path_ticket;
pub mod scope;
pub mod settings_token;
pub mod ticket;
