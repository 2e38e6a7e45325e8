//! `?limit=&after=`: a long list in pages. Decides where a page begins and ends, and names the next
//! one in a Link header (RFC 8288); the body is a list as without it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use overlan_protocol::api::ProblemKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::problem::Refusal;
use crate::deployment::Deployment;

/// The page that a request asks for; without a limit, all that is left.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Most items of the page.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<usize>,
    /// The last item of the page before, as its Link header names it.
    after: Option<String>,
    /// The rest of the query, which further pages have as well.
    #[serde(skip)]
    others: String,
}

impl FromRequestParts<Arc<Deployment>> for Page {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        let page: Result<Query<Self>, _> = Query::try_from_uri(&parts.uri);
        let page = page.map(|Query(page)| page).ok();
        let page = page.ok_or_else(|| {
            Refusal::bad_request("the query may only be limit=<number> and after=<item>")
        })?;
        page.checked()
    }
}

impl Page {
    /// The page that a query asks for among other things.
    pub(super) fn among(
        uri: &Uri,
        limit: Option<usize>,
        after: Option<String>,
    ) -> Result<Self, Refusal> {
        let is_other = |one: &&str| !one.starts_with("limit=") && !one.starts_with("after=");
        let query = uri.query().unwrap_or_default().split('&');
        let others = query.filter(is_other).map(|one| format!("{one}&"));
        let page = Self {
            limit,
            after,
            others: others.collect(),
        };
        page.checked()
    }

    fn checked(self) -> Result<Self, Refusal> {
        match self.limit {
            Some(limit) if !(1..=LIMIT_MAX).contains(&limit) => Err(Refusal::bad_request(format!(
                "the limit of a page is 1 to {LIMIT_MAX}"
            ))),
            Some(_) | None => Ok(self),
        }
    }

    /// Cuts the page out of all items, which `key` names by a text that needs no escapes in a URL.
    pub(super) fn of<T>(
        self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<Paged<T>, Refusal> {
        if let Some(after) = &self.after {
            let last = items.iter().position(|item| key(item) == *after);
            items.drain(..=last.ok_or_else(page_gone)?);
        }
        let mut next = None;
        if let Some(limit) = self.limit.filter(|limit| items.len() > *limit) {
            items.truncate(limit);
            let last = items.last().map(key);
            let others = &self.others;
            next = last.map(|last| format!("<?{others}limit={limit}&after={last}>; rel=\"next\""));
        }
        Ok(Paged { items, next })
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Paged<T> {
    items: Vec<T>,
    /// The Link header, if there is a further page.
    next: Option<String>,
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.items).into_response();
        if let Some(next) = self.next.and_then(|next| HeaderValue::try_from(next).ok()) {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

fn page_gone() -> Refusal {
    Refusal::new(
        ProblemKind::NotFound,
        "the item that the page comes after is gone",
        "begin again with the first page, without `after`",
    )
}

/// Most items of a page: what is more is asked for in further ones, or without a limit.
const LIMIT_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: Option<usize>, after: Option<&str>) -> Page {
        let after = after.map(str::to_owned);
        let others = String::new();
        Page {
            limit,
            after,
            others,
        }
    }

    #[test]
    fn further_pages_ask_for_the_same_list() {
        let uri = Uri::from_static("/x?tag=web&limit=2&after=1&sort=name");
        let page = Page::among(&uri, Some(1), Some("1".to_owned())).unwrap();
        let cut = page.of(vec![1, 2, 3], i32::to_string).unwrap();
        let expected = "<?tag=web&sort=name&limit=1&after=2>; rel=\"next\"";
        assert_eq!(cut.next.as_deref(), Some(expected));
        assert!(Page::among(&uri, Some(0), None).is_err());
        assert!(Page::among(&uri, Some(LIMIT_MAX + 1), None).is_err());
    }

    #[test]
    fn pages_in_a_row_are_the_list() {
        for length in 0..10 {
            let all: Vec<usize> = (0..length).collect();
            for limit in 1..12 {
                let (mut seen, mut after) = (Vec::<usize>::new(), None::<String>);
                loop {
                    let page = page(Some(limit), after.as_deref());
                    let cut = page.of(all.clone(), usize::to_string).unwrap();
                    assert!(cut.items.len() <= limit);
                    seen.extend(&cut.items);
                    let Some(next) = cut.next else { break };
                    let last = cut.items.last().unwrap();
                    let expected = format!("<?limit={limit}&after={last}>; rel=\"next\"");
                    assert_eq!(next, expected);
                    after = Some(last.to_string());
                }
                assert_eq!(seen, all);
            }
        }
        let rest = page(None, Some("1")).of(vec![0, 1, 2, 3], i32::to_string);
        assert_eq!(rest.unwrap().items, [2, 3]);
        assert!(
            page(None, Some("9"))
                .of(vec![0, 1], i32::to_string)
                .is_err()
        );
    }
}
