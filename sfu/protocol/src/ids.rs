//! Identifiers as sent on the wire. Inside, the engine works with indices; it uses these identifiers only in its inputs
//! and outputs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! sid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Prefix of every identifier of this type.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps an identifier in its wire form. The prefix is not checked.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// Identifier in its wire form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

sid!(
    /// Id of a room, from its opening to its closing (`RM_…`). A room that is opened again under the same name gets a
    /// new id.
    RoomSid,
    "RM_"
);
sid!(
    /// Id of one session of a participant (`PA_…`). A full reconnect makes a new one.
    ParticipantSid,
    "PA_"
);
sid!(
    /// Id of a published track (`TR_…`).
    TrackSid,
    "TR_"
);
