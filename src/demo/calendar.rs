//! The `calendar` upstream: date arithmetic that language models get wrong.

use serde_json::{Value, json};
use time::{
    Date, Duration, PrimitiveDateTime, UtcOffset, Weekday,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

use super::{
    server::{Progress, Upstream},
    tools::{Arguments, Effect, Need, Outcome, Tool},
};

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const DATE_TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]");

/// Has no state: every answer follows from the arguments.
#[derive(Debug)]
pub(super) struct Calendar;

impl Upstream for Calendar {
    fn name(&self) -> &'static str {
        "calendar"
    }

    fn instructions(&self) -> &'static str {
        "Exact date arithmetic. Dates are YYYY-MM-DD, times YYYY-MM-DDTHH:MM, offsets +HH:MM."
    }

    fn tools(&self) -> Vec<Tool> {
        let date = |what: &str| json!({"type": "string", "format": "date", "description": what});
        let offset = |what: &str| json!({"type": "string", "pattern": "^[+-][0-9]{2}:[0-9]{2}$", "description": what});
        vec![
            Tool {
                name: "days_between",
                title: "Days between two dates",
                description: "Counts days, whole weeks and working days (Monday to Friday) from one date to another. Negative when `to` is earlier.",
                arguments: vec![
                    ("from", date("First day, not counted"), Need::Required),
                    ("to", date("Last day, counted"), Need::Required),
                ],
                effect: Effect::ReadsOnly,
            },
            Tool {
                name: "next_weekday",
                title: "Next weekday after a date",
                description: "Finds the first given weekday strictly after a date.",
                arguments: vec![
                    ("date", date("The day to start from"), Need::Required),
                    ("weekday", json!({"type": "string", "description": "English name, such as Monday"}), Need::Required),
                ],
                effect: Effect::ReadsOnly,
            },
            Tool {
                name: "convert_time_zone",
                title: "Convert between UTC offsets",
                description: "Tells a wall-clock time at another UTC offset.",
                arguments: vec![
                    ("time", json!({"type": "string", "description": "YYYY-MM-DDTHH:MM"}), Need::Required),
                    ("from_offset", offset("Offset of `time`, such as +01:00"), Need::Required),
                    ("to_offset", offset("Wanted offset, such as -05:00"), Need::Required),
                ],
                effect: Effect::ReadsOnly,
            },
        ]
    }

    async fn call(&self, tool: &str, arguments: Arguments<'_>, _progress: &Progress) -> Outcome {
        match tool {
            "days_between" => days_between(date(&arguments, "from")?, date(&arguments, "to")?),
            "next_weekday" => next_weekday(date(&arguments, "date")?, arguments.text("weekday")?),
            _ => {
                let (from, to) = (offset(&arguments, "from_offset")?, offset(&arguments, "to_offset")?);
                convert(arguments.text("time")?, from, to)
            }
        }
    }
}

fn days_between(from: Date, to: Date) -> Outcome {
    let days = (to - from).whole_days();
    let (earlier, later) = if from <= to { (from, to) } else { (to, from) };
    // Working days up to and including a day, counted from a Monday long ago; the difference of two is what lies between.
    let working = |day: Date| {
        let since_monday = i64::from(day.to_julian_day()) - i64::from(Date::MIN.to_julian_day())
            + i64::from(Date::MIN.weekday().number_days_from_monday());
        since_monday.div_euclid(7) * 5 + (since_monday.rem_euclid(7) + 1).min(5)
    };
    let working_days = (working(later) - working(earlier)) * days.signum();
    Ok(json!({"days": days, "weeks": days / 7, "working_days": working_days}))
}

fn next_weekday(date: Date, name: &str) -> Outcome {
    const WEEKDAYS: [Weekday; 7] =
        [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday, Weekday::Saturday, Weekday::Sunday];
    let weekday = WEEKDAYS.into_iter().find(|day| day.to_string().eq_ignore_ascii_case(name));
    let weekday = weekday.ok_or_else(|| format!("`{name}` is not an English weekday"))?;
    let same_week = i64::from(weekday.number_days_from_monday()) - i64::from(date.weekday().number_days_from_monday());
    let days_ahead = if same_week > 0 { same_week } else { same_week + 7 };
    let next = date.checked_add(Duration::days(days_ahead)).ok_or("the calendar ends before that")?;
    Ok(json!({"date": text(next), "days_ahead": days_ahead}))
}

fn convert(time: &str, from: UtcOffset, to: UtcOffset) -> Outcome {
    let at = PrimitiveDateTime::parse(time, DATE_TIME).map_err(|_| format!("`{time}` is not a time; write it as 2026-03-31T18:30"))?;
    let there = at.assume_offset(from).checked_to_offset(to).ok_or("the calendar ends before that")?;
    let written = there.format(&Rfc3339).map_err(|_| "a year before 0 or after 9999 cannot be written")?;
    Ok(json!({"time": written, "weekday": there.weekday().to_string(), "date_changes": there.date() != at.date()}))
}

fn date(arguments: &Arguments<'_>, name: &str) -> Result<Date, String> {
    let text = arguments.text(name)?;
    Date::parse(text, DATE).map_err(|_| format!("`{name}`: \"{text}\" is not a date; write it as 2026-03-31"))
}

fn offset(arguments: &Arguments<'_>, name: &str) -> Result<UtcOffset, String> {
    let text = arguments.text(name)?;
    let format = format_description!("[offset_hour sign:mandatory]:[offset_minute]");
    UtcOffset::parse(text, format).map_err(|_| format!("`{name}`: \"{text}\" is not an offset; write it as +05:30"))
}

fn text(date: Date) -> Value {
    date.format(DATE).map_or(Value::Null, Value::String)
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn days_weeks_and_working_days_are_counted_across_a_leap_day() {
        assert_eq!(days_between(date!(2024 - 02 - 01), date!(2024 - 03 - 01)), Ok(json!({"days": 29, "weeks": 4, "working_days": 21})));
        assert_eq!(days_between(date!(2026 - 11 - 20), date!(2026 - 11 - 22)), Ok(json!({"days": 2, "weeks": 0, "working_days": 0})));
        assert_eq!(days_between(date!(2026 - 11 - 23), date!(2026 - 11 - 20)), Ok(json!({"days": -3, "weeks": 0, "working_days": -1})));
    }

    #[test]
    fn working_days_agree_with_counting_one_by_one() {
        let first = date!(2026 - 01 - 01);
        for length in 0..40 {
            let last = first + Duration::days(length);
            let counted =
                (1..=length).filter(|&n| !matches!((first + Duration::days(n)).weekday(), Weekday::Saturday | Weekday::Sunday)).count();
            assert_eq!(days_between(first, last).map(|v| v["working_days"].clone()), Ok(json!(counted)));
        }
    }

    #[test]
    fn the_next_weekday_is_never_the_day_itself() {
        assert_eq!(next_weekday(date!(2026 - 11 - 23), "monday"), Ok(json!({"date": "2026-11-30", "days_ahead": 7})));
        assert!(next_weekday(date!(2026 - 11 - 23), "someday").is_err());
    }

    #[test]
    fn an_offset_can_change_the_date() {
        let (cet, ist) = (time::macros::offset!(+1), time::macros::offset!(+5:30));
        let expected = json!({"time": "2027-01-01T00:30:00+05:30", "weekday": "Friday", "date_changes": true});
        assert_eq!(convert("2026-12-31T20:00", cet, ist), Ok(expected));
        assert!(convert("yesterday", cet, ist).is_err());
    }
}
