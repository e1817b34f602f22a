//! "Did you mean": the known name nearest to an unknown one.

/// The candidate nearest to `name`, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong, two at least unless the name is too short for that.
    let limit = match name.chars().count() {
        0..=2 => return None,
        3..=4 => 1,
        len => (len / 3).max(2),
    };
    let near = candidates.filter_map(|candidate| Some((distance(name, candidate, limit)?, candidate)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour, regardless of case; none if more than `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit || a.len() > 200 || b.len() > 200 {
        return None;
    }
    let a: Vec<u8> = a.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let b: Vec<u8> = b.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = above;
        above = row;
    }
    Some(above[b.len()]).filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["cluster", "clusters", "weighted_clusters", "timeout", "host_rewrite_literal"];
        let nearest = |name| nearest(name, names.into_iter());
        assert_eq!(nearest("timeoutx"), Some("timeout"));
        assert_eq!(nearest("tiemout"), Some("timeout"));
        assert_eq!(nearest("Timeout"), Some("timeout"));
        assert_eq!(nearest("host_rewrite_litteral"), Some("host_rewrite_literal"));
        assert_eq!(nearest("cluser"), Some("cluster"));
        assert_eq!(nearest("bogus_field"), None);
        assert_eq!(nearest("x"), None);
    }
}
