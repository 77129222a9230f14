//! What MQTT's filters match, as sets of topics: does one lie in another, or in several together?
//!
//! A filter is its levels. `+` matches any one level; `#`, which stands last, any number of levels,
//! none included. Topics that begin with `$` are left to the caller, since no wildcard matches them.

/// The levels of a topic or of a filter.
pub(super) type Filter<'a> = Vec<&'a str>;

/// Whether `wide` matches every topic that `narrow` matches.
pub(super) fn covers(mut wide: &[&str], mut narrow: &[&str]) -> bool {
    loop {
        match (wide, narrow) {
            (["#"], _) | ([], []) => return true,
            ([wide_level, wide_rest @ ..], [level, rest @ ..]) => {
                if level == &"#" || (wide_level != &"+" && wide_level != level) {
                    return false;
                }
                (wide, narrow) = (wide_rest, rest);
            }
            _ => return false,
        }
    }
}

/// Whether every topic that `narrow` matches is matched by at least one of `filters`.
///
/// One of them has to do it alone, for each number of levels: a topic that has a level nobody ever
/// wrote wherever `narrow` has a wildcard is matched only by a filter with wildcards in all those
/// places, and that matches whatever else stands there.
pub(super) fn covered(filters: &[Filter<'_>], narrow: &[&str]) -> bool {
    let one_covers = |narrow: &[&str]| filters.iter().any(|filter| covers(filter, narrow));
    let [begin @ .., "#"] = narrow else {
        return one_covers(narrow);
    };
    let mut exact = begin.to_vec();
    loop {
        exact.push("#");
        if one_covers(&exact) {
            return true;
        }
        exact.pop();
        // It ends: what covers more levels than any filter has ends in `#`, and covers the rest.
        if !one_covers(&exact) {
            return false;
        }
        exact.push("+");
    }
}

/// The topics that both match, which are those of one filter; none if there are none.
pub(super) fn meet<'a>(mut one: &[&'a str], mut other: &[&'a str]) -> Option<Filter<'a>> {
    let mut both = Filter::new();
    loop {
        match (one, other) {
            (["#"], rest) | (rest, ["#"]) => {
                both.extend(rest);
                return Some(both);
            }
            ([], []) => return Some(both),
            ([one_level, one_rest @ ..], [other_level, other_rest @ ..]) => {
                both.push(match (*one_level, *other_level) {
                    ("+", level) | (level, "+") => level,
                    (level, same) if level == same => level,
                    _ => return None,
                });
                (one, other) = (one_rest, other_rest);
            }
            _ => return None,
        }
    }
}

/// Whether `filter` matches this topic.
#[cfg(test)]
pub(super) fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches(filter, topic),
        ([level, filter @ ..], [other, topic @ ..]) => level == other && matches(filter, topic),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every topic of at most four levels. No filter below has the level `z`.
    fn topics() -> Vec<Filter<'static>> {
        let mut topics = vec![Filter::new()];
        let mut longest = topics.clone();
        for _ in 0..4 {
            let longer = longest.iter().flat_map(|topic| {
                ["a", "b", "z"].map(|level| [topic.as_slice(), &[level]].concat())
            });
            longest = longer.collect();
            topics.extend(longest.clone());
        }
        topics
    }

    /// Of at most three levels, so that topics are longer.
    fn filters() -> impl Strategy<Value = Filter<'static>> {
        let levels = prop::collection::vec(prop::sample::select(vec!["a", "b", "+", "+"]), 0..=3);
        (levels, any::<bool>()).prop_map(|(mut levels, all)| {
            if all {
                levels.truncate(2);
                levels.push("#");
            }
            levels
        })
    }

    #[test]
    fn cover_of_one_by_one_agrees_with_all_topics() {
        let runner = &mut proptest::test_runner::TestRunner::default();
        runner
            .run(&(filters(), filters()), |(wide, narrow)| {
                let mut topics = topics().into_iter();
                let all = topics.all(|topic| !matches(&narrow, &topic) || matches(&wide, &topic));
                prop_assert_eq!(covers(&wide, &narrow), all);
                Ok(())
            })
            .expect("no difference");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn cover_by_several_agrees_with_all_topics(
            wide in prop::collection::vec(filters(), 0..5),
            narrow in filters(),
        ) {
            let one_matches = |topic: &[&str]| wide.iter().any(|filter| matches(filter, topic));
            let mut topics = topics().into_iter();
            let all = topics.all(|topic| !matches(&narrow, &topic) || one_matches(&topic));
            prop_assert_eq!(covered(&wide, &narrow), all);
        }

        #[test]
        fn what_both_match_agrees_with_all_topics(one in filters(), other in filters()) {
            let both = meet(&one, &other);
            for topic in topics() {
                let met = both.as_ref().is_some_and(|both| matches(both, &topic));
                prop_assert_eq!(met, matches(&one, &topic) && matches(&other, &topic));
            }
        }
    }
}
