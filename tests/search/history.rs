//! What may happen to a few uploads, drawn by a seed: what clients do, what brokers and the store suffer, and when.

use proptest::collection::vec;
use proptest::prelude::*;
use store::fault::{abort, any_part, complete, create, head, list_parts};
use store::{Fault, Garbled, When};

/// One history.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Whether the store's ETags are taken for MD5s.
    pub(crate) etags_are_md5s: bool,
    /// Parts in a page of ListParts; 0 for all.
    pub(crate) page: usize,
    /// The uploads that there are.
    pub(crate) uploads: Vec<Shape>,
    /// Faults by chance in a thousand requests, from the first operation to the last.
    pub(crate) storm: u16,
    /// What happens.
    pub(crate) operations: Vec<Operation>,
}

/// One upload.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Parts; all but the last of those that the broker plans take 5 MiB.
    pub(crate) parts: u16,
    /// Whether the client declares MD5s, which those of the form protocol and of a batch always do.
    pub(crate) declares: bool,
    /// Whether it goes to the key of the first upload.
    pub(crate) same_key: bool,
    /// Whether all parts are sent before the first operation.
    pub(crate) sent: bool,
    /// Whether its client asks again until it has been told the object or the end.
    pub(crate) persists: bool,
    /// What comes of the first request to create it. Its client then asks once more.
    pub(crate) begins: Option<Trouble>,
}

/// How an upload is asked for, and so what the broker knows of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// By the form protocol: how many parts.
    Form,
    /// The size.
    Sized,
    /// Nothing until it is complete.
    Stream,
    /// As one small file of a batch: put whole where the store's profile lets it be, in one part elsewhere.
    Small,
}

/// What comes of a request to create an upload.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// The store fails so many times.
    Store { fault: Fault, times: u64 },
    /// The broker dies at its call to the store, before or after the effect.
    Dies { done: bool },
    /// The ledger fails, from this row on that is to be written.
    Ledger(Rows),
    /// All is done, and its client does not hear of it.
    Unheard,
}

/// Where the ledger begins to fail, until it is mended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Rows that are written yet.
    pub(crate) after: u8,
    /// Whether it is the commit that fails, rather than the row.
    pub(crate) at_commit: bool,
}

/// One thing that happens. Uploads and parts are taken modulo how many there are.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// A part is signed and sent, with this version of its content.
    Put { upload: usize, part: usize, version: u8 },
    /// The first URL of a part is used again.
    PutAgain { upload: usize, part: usize },
    /// The store holds something else of a part than any client sent through the broker.
    Foreign { upload: usize, part: usize },
    /// A broker is asked to complete.
    Complete { upload: usize, broker: usize },
    /// The same; at one of its calls to the store it is held up, before or after the effect, while other things happen.
    HeldUp {
        upload: usize,
        broker: usize,
        at: Call,
        done: bool,
        meanwhile: Vec<Operation>,
        dies: bool,
    },
    /// A broker is asked to complete, hears nothing of it, and cannot look for the object either.
    Silent { upload: usize, broker: usize, done: bool },
    /// A broker is asked to abort.
    Abort { upload: usize, broker: usize },
    /// So many seconds pass.
    Pass { seconds: u64 },
    /// A broker sweeps.
    Sweep { broker: usize },
    /// The next call of a kind fails, after some that do not.
    Fails { fault: Fault, at: Call },
    /// The ledger takes no more changes.
    LedgerFails(Rows),
    /// It does again.
    LedgerMends,
    /// The store loses the upload.
    Forget { upload: usize },
    /// Somebody else puts an object to the upload's key.
    TakeKey { upload: usize },
}

/// One of the calls to the store that are to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) when: When,
}

fn uploads() -> impl Strategy<Value = usize> {
    0..3_usize
}

/// The calls that completing makes.
fn completing_call() -> impl Strategy<Value = Call> {
    let kind = prop_oneof![3 => Just(complete()), 2 => Just(list_parts()), 2 => Just(head()), 1 => Just(create())];
    (kind, prop_oneof![3 => Just(0_u64), 1 => 1..3_u64]).prop_map(|(when, after)| Call {
        when: when.after(after),
    })
}

fn rows() -> impl Strategy<Value = Rows> {
    (0..4_u8, any::<bool>()).prop_map(|(after, at_commit)| Rows { after, at_commit })
}

fn fails() -> impl Strategy<Value = Operation> {
    let garbled = (
        prop_oneof![
            Just(Garbled::Error),
            Just(Garbled::Empty),
            Just(Garbled::Html),
            Just(Garbled::SpaceBefore),
            (0..400_usize).prop_map(Garbled::CutAt),
        ],
        any::<bool>(),
    )
        .prop_map(|(answer, done)| Fault::Garbled { answer, done });
    let any_call = || {
        prop_oneof![
            Just(Fault::CutConnection),
            Just(Fault::CutAfterEffect),
            Just(Fault::SlowDown { retry_after: None }),
            Just(Fault::InternalError),
        ]
    };
    let times = prop_oneof![3 => Just(1_u64), 1 => 2..5_u64];
    let at = prop_oneof![
        4 => (prop_oneof![3 => any_call().boxed(), 3 => garbled.clone().boxed(), 1 => Just(Fault::InvalidPart).boxed()], Just(complete())),
        3 => (prop_oneof![
            3 => any_call().boxed(),
            2 => garbled.boxed(),
            1 => Just(Fault::OtherEtags).boxed(),
            1 => Just(Fault::StaleList).boxed(),
            1 => Just(Fault::RepeatMarker).boxed(),
        ], Just(list_parts())),
        2 => (prop_oneof![
            4 => any_call().boxed(),
            1 => Just(Fault::OtherEtags).boxed(),
            1 => Just(Fault::AccessDenied).boxed(),
        ], Just(head())),
        1 => (any_call(), Just(create())),
        1 => (any_call(), Just(abort())),
        1 => (prop_oneof![any_call().boxed(), Just(Fault::FlipOneBit).boxed()], Just(any_part())),
    ];
    (at, 0..2_u64, times).prop_map(|((fault, when), after, times)| Operation::Fails {
        fault,
        at: Call {
            when: when.after(after).times(times),
        },
    })
}

/// What can happen while a broker is held up.
fn short() -> BoxedStrategy<Operation> {
    prop_oneof![
        3 => (uploads(), 0..4_usize, 0..3_u8).prop_map(|(upload, part, version)| Operation::Put { upload, part, version }),
        2 => (uploads(), 0..4_usize).prop_map(|(upload, part)| Operation::PutAgain { upload, part }),
        1 => (uploads(), 0..4_usize).prop_map(|(upload, part)| Operation::Foreign { upload, part }),
        6 => (uploads(), 0..2_usize).prop_map(|(upload, broker)| Operation::Complete { upload, broker }),
        1 => (uploads(), 0..2_usize, any::<bool>())
            .prop_map(|(upload, broker, done)| Operation::Silent { upload, broker, done }),
        2 => (uploads(), 0..2_usize).prop_map(|(upload, broker)| Operation::Abort { upload, broker }),
        4 => prop_oneof![3 => Just(31_u64), 2 => 1..62_u64, 1 => Just(crate::run::LIFE.as_secs() + 1)]
            .prop_map(|seconds| Operation::Pass { seconds }),
        2 => (0..2_usize).prop_map(|broker| Operation::Sweep { broker }),
        6 => fails(),
        2 => rows().prop_map(Operation::LedgerFails),
        2 => Just(Operation::LedgerMends),
        1 => uploads().prop_map(|upload| Operation::Forget { upload }),
        1 => uploads().prop_map(|upload| Operation::TakeKey { upload }),
    ]
    .boxed()
}

fn operation() -> impl Strategy<Value = Operation> {
    let held_up = (
        (uploads(), 0..2_usize, completing_call()),
        (any::<bool>(), vec(short(), 0..4), any::<bool>()),
    )
        .prop_map(|((upload, broker, at), (done, meanwhile, dies))| Operation::HeldUp {
            upload,
            broker,
            at,
            done,
            meanwhile,
            dies,
        });
    prop_oneof![3 => short(), 1 => held_up]
}

/// What the first request to create meets.
fn trouble() -> impl Strategy<Value = Trouble> {
    let fault = prop_oneof![
        Just(Fault::CutConnection),
        Just(Fault::CutAfterEffect),
        Just(Fault::SlowDown { retry_after: None }),
        Just(Fault::InternalError),
        (
            prop_oneof![
                Just(Garbled::Error),
                Just(Garbled::Empty),
                Just(Garbled::Html),
                (0..200_usize).prop_map(Garbled::CutAt)
            ],
            any::<bool>()
        )
            .prop_map(|(answer, done)| Fault::Garbled { answer, done }),
    ];
    prop_oneof![
        3 => (fault, 1..4_u64).prop_map(|(fault, times)| Trouble::Store { fault, times }),
        2 => any::<bool>().prop_map(|done| Trouble::Dies { done }),
        2 => rows().prop_map(Trouble::Ledger),
        1 => Just(Trouble::Unheard),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![
        6 => Just(Kind::Form),
        3 => Just(Kind::Sized),
        2 => Just(Kind::Stream),
        2 => Just(Kind::Small),
    ];
    (
        // A part that is not the last is of 5 MiB where the broker plans it: seldom.
        (
            kind,
            1..5_u16,
            prop_oneof![30 => Just(false), 1 => Just(true)],
            any::<bool>(),
        ),
        (
            any::<bool>(),
            prop_oneof![1 => Just(false), 3 => Just(true)],
            prop_oneof![1 => Just(false), 2 => Just(true)],
            prop_oneof![4 => Just(None), 1 => trouble().prop_map(Some)],
        ),
    )
        .prop_map(
            |((kind, parts, large, declares), (same_key, sent, persists, begins))| Shape {
                kind,
                parts: match kind {
                    Kind::Form => parts,
                    Kind::Sized | Kind::Stream if large => 2,
                    Kind::Sized | Kind::Stream | Kind::Small => 1,
                },
                declares: declares || matches!(kind, Kind::Form | Kind::Small),
                same_key,
                sent,
                persists,
                begins,
            },
        )
}

/// All histories.
pub(crate) fn scenarios() -> impl Strategy<Value = Scenario> {
    (
        prop_oneof![2 => Just(true), 1 => Just(false)],
        0..3_usize,
        vec(shape(), 1..3),
        prop_oneof![3 => Just(0_u16), 1 => 1..300_u16],
        vec(operation(), 1..9),
    )
        .prop_map(|(etags_are_md5s, page, uploads, storm, operations)| Scenario {
            etags_are_md5s,
            page,
            uploads,
            storm,
            operations,
        })
}
