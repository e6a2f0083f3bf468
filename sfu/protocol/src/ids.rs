//! Identifiers as they stand on the wire. The engine works with indices and meets these only at its doors.

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
            /// What every such identifier begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes the identifier as it stands on the wire.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The identifier as it stands on the wire.
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
    /// One life of one room (`RM_…`). A room that closed and was opened again under its name has a new one.
    RoomSid,
    "RM_"
);
sid!(
    /// One session of one participant (`PA_…`). A full reconnect makes a new one.
    ParticipantSid,
    "PA_"
);
sid!(
    /// One published track (`TR_…`).
    TrackSid,
    "TR_"
);
