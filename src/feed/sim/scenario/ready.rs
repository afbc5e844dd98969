/// The scenarios that are built in, by name: the files of `feeds/`.
pub const READY: [(&str, &str); 5] = [
    ("calm-day", include_str!("../../../../feeds/calm-day.toml")),
    ("opening-bell", include_str!("../../../../feeds/opening-bell.toml")),
    ("flash-crash", include_str!("../../../../feeds/flash-crash.toml")),
    ("feed-outage", include_str!("../../../../feeds/feed-outage.toml")),
    ("burst", include_str!("../../../../feeds/burst.toml")),
];
