//! What a misspelt name was probably meant to be.

/// The name that `text` was most likely meant to be, if any is close: a letter in three may be wrong.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = |c: &str| c.len().max(text.len()) / 3 + usize::from(c.len() > 2);
    let length = text.chars().count();
    names
        // No distance is less than that of the lengths; without this a long text would cost a long time.
        .filter(|&c| c.chars().count().abs_diff(length) <= allowed(c))
        .map(|c| (strsim::damerau_levenshtein(text, c), c))
        .filter(|&(distance, c)| distance <= allowed(c))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, c)| c)
}

/// The one of a few names that `text` is most like, whatever its case; empty only where there are no names.
#[cfg(feature = "server")]
pub(crate) fn most_like<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> &'a str {
    let text = text.to_lowercase();
    let likeness = |name: &&str| strsim::jaro_winkler(&text, &name.to_lowercase());
    names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}

/// What was probably meant, or all that it could be: `did you mean "ping"?`, `ops are ping, stats`.
pub(crate) fn hint<'a>(text: &str, what: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(text, names.clone()) {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("{what} are {}", names.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "server")]
    fn the_likest_name_is_the_one_with_a_letter_wrong() {
        assert_eq!(most_like("bidsize", ["bid", "bid_size", "ask_size"]), "bid_size");
        assert_eq!(most_like("PRICE", ["size", "price"]), "price");
        assert_eq!(most_like("PRICE", []), "");
    }

    #[test]
    fn a_name_is_near_where_few_of_its_letters_are_wrong() {
        assert_eq!(hint("pnig", "ops", ["ping", "stats"].into_iter()), "did you mean \"ping\"?");
        assert_eq!(hint("subscribe", "ops", ["ping", "stats"].into_iter()), "ops are ping, stats");
    }
}
