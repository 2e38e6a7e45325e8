//! JSON schemas of values that are texts on the wire, for the controller's OpenAPI document. The
//! types of the API derive theirs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::dns::Via;
use crate::key::{DeviceId, NetworkId, RelayId, Secret};
use crate::source_range::SourceRange;
use crate::tag::Tag;

macro_rules! text {
    ($($name:ident: $pattern:literal)*) => {
        $(
            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "pattern": $pattern })
                }
            }
        )*
    };
}

text! {
    DeviceId: "^[0-9a-f]{32}$"
    NetworkId: "^[0-9a-f]{32}$"
    RelayId: "^[0-9a-f]{32}$"
    Secret: ""
    SourceRange: "^[0-9a-fA-F.:]+(/[0-9]+)?$"
    Tag: "^[a-z0-9-]{1,63}$"
    Via: "^.+:[0-9]+$"
}
