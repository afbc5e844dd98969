//! What the entries of an update are called in its MessagePack form.

/// Plus the mask of fields, 1 to 15.
pub const QUOTE: u8 = 0;
/// Plus the mask of fields, 1 to 15.
pub const QUOTE_WITH_TIME: u8 = 16;
pub const TRADES: u8 = 32;
pub const TRADES_NUMBERED: u8 = 33;
pub const BAR_1S: u8 = 40;
pub const BAR_1M: u8 = 41;
pub const DAY: u8 = 42;
pub const CLOSED_1S: u8 = 44;
pub const CLOSED_1M: u8 = 45;
pub const CLOSED_1S_NUMBERED: u8 = 46;
pub const CLOSED_1M_NUMBERED: u8 = 47;
pub const STATUS: u8 = 60;
pub const FEED: u8 = 61;
pub const RESET: u8 = 59;
pub const STATS: u8 = 62;
pub const DEFINITION: u8 = 63;
