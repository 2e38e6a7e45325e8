//! Reads from a handler's own signature what its route takes and answers, for the OpenAPI document.
//! Nothing is written down twice, so nothing can be wrong.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::body::{Json, LongJson};
use super::caller::{Person, ProvenDevice, Source};
use super::changed::Changed;
use super::pages::{Page, Paged};
use super::problem::Refusal;
use crate::deployment::Deployment;

/// The things that a route takes and answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Description {
    /// The handler's full name.
    pub(super) handler: &'static str,
    pub(super) query: Option<Shape>,
    pub(super) body: Option<Shape>,
    pub(super) answer: Shape,
}

/// Makes the schema of one type.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A handler whose arguments and answer describe themselves. `Arguments` is their tuple.
pub(super) trait Described<Arguments> {
    fn description() -> Description;
}

/// An argument of a handler.
pub(super) trait Argument {
    /// Adds what it takes from the request.
    fn describe(_description: &mut Description) {}
}

/// An answer of a handler.
pub(super) trait Answered {
    const SHAPE: Shape;
}

macro_rules! described {
    ($($argument:ident)*) => {
        impl<F, Fut, A, $($argument),*> Described<($($argument,)*)> for F
        where
            F: FnOnce($($argument),*) -> Fut,
            Fut: Future<Output = A>,
            A: Answered,
            $($argument: Argument,)*
        {
            fn description() -> Description {
                #[allow(unused_mut, reason = "a handler may have no arguments")]
                let mut description = Description {
                    handler: std::any::type_name::<F>(),
                    query: None,
                    body: None,
                    answer: A::SHAPE,
                };
                $($argument::describe(&mut description);)*
                description
            }
        }
    };
}

described!();
described!(A1);
described!(A1 A2);
described!(A1 A2 A3);
described!(A1 A2 A3 A4);
described!(A1 A2 A3 A4 A5);
described!(A1 A2 A3 A4 A5 A6);

impl<T: JsonSchema> Argument for Json<T> {
    fn describe(description: &mut Description) {
        description.body = Some(shape::<T>);
    }
}

impl<T: JsonSchema> Argument for LongJson<T> {
    fn describe(description: &mut Description) {
        Json::<T>::describe(description);
    }
}

impl<T: JsonSchema> Argument for Result<Query<T>, QueryRejection> {
    fn describe(description: &mut Description) {
        description.query = Some(shape::<T>);
    }
}

impl Argument for Page {
    fn describe(description: &mut Description) {
        description.query = Some(shape::<Self>);
    }
}

// The path itself names its parts.
impl<T> Argument for Path<T> {}
impl<T> Argument for Result<Path<T>, PathRejection> {}
impl Argument for State<Arc<Deployment>> {}
impl Argument for Person {}
impl Argument for ProvenDevice {}
impl Argument for Source {}
impl Argument for Uri {}

impl<T: JsonSchema> Answered for Json<T> {
    const SHAPE: Shape = shape::<T>;
}

impl<T: JsonSchema> Answered for Changed<T> {
    const SHAPE: Shape = shape::<T>;
}

impl<T: JsonSchema> Answered for Paged<T> {
    const SHAPE: Shape = shape::<Vec<T>>;
}

impl<T: Answered> Answered for Result<T, Refusal> {
    const SHAPE: Shape = T::SHAPE;
}

fn shape<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}
