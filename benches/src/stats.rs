//! Arithmetic on measured numbers: median, percentiles, fairness. It knows neither units nor where
//! numbers come from.

/// The middle of `values`, the mean of both middles if their number is even; `None` without any.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[middle - 1] + upper) / 2.0)
}

/// The smallest value that at least `share` (0 to 1) of `sorted` do not exceed; `None` without any.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Jain's index of fairness: 1 if all get the same, 1/n if one gets all. `None` if nobody gets
/// anything.
pub(crate) fn jain(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

/// The ratios of two chains run by run, so that each ratio is of the same minute. Runs that only
/// one of them has are left out.
pub(crate) fn ratios(of: &[(u32, f64)], to: &[(u32, f64)]) -> Vec<f64> {
    of.iter()
        .filter_map(|(run, value)| {
            let (_, base) = to.iter().find(|(other, _)| other == run)?;
            (*base > 0.0).then(|| value / base)
        })
        .collect()
}

/// After how many samples a rate has reached `share` of the rate that it ends with. `totals` are
/// running totals at even distances; the end rate is that of the last half. `None` if it never
/// moved.
pub(crate) fn ramp(totals: &[u64], share: f64) -> Option<usize> {
    let half = totals.len() / 2;
    let (first, last) = (*totals.get(half)?, *totals.last()?);
    let steps = (totals.len() - 1 - half) as f64;
    let wanted = (last - first) as f64 / steps * share;
    if wanted <= 0.0 {
        return None;
    }
    // Mean over WINDOW samples: bytes come in bursts of a round trip.
    (WINDOW..totals.len()).find(|&at| {
        let rate = (totals[at] - totals[at - WINDOW]) as f64 / WINDOW as f64;
        rate >= wanted
    })
}

/// Samples over which [`ramp`] takes a mean.
const WINDOW: usize = 4;

#[cfg(test)]
mod tests;
