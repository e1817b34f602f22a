//! The Gregorian calendar: seconds since 1970 as days, months and weeks of UTC.

use std::cell::Cell;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Year,
    Century,
    YearOfCentury,
    Month,
    Day,
    Hour,
    Hour12,
    Minute,
    Second,
    Epoch,
    DayOfYear,
    /// Monday is 1.
    IsoWeekday,
    /// Sunday is 0.
    Weekday,
    SundayWeek,
    MondayWeek,
    IsoWeek,
    IsoYear,
    IsoYearOfCentury,
}

/// What has a name in English.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    /// `Monday`
    Day,
    /// `Mon`
    DayShort,
    /// `January`
    Month,
    /// `Jan`
    MonthShort,
    /// `AM`
    AmPm,
    /// `am`
    AmPmLower,
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A second of UTC, broken down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Year of the proleptic Gregorian calendar.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Sunday is 0.
    pub weekday: u8,
    /// 1 to 366.
    pub day_of_year: u16,
}

thread_local!(static LAST: Cell<(i64, Civil)> = const { Cell::new((0, Civil::EPOCH)) });

impl Civil {
    const EPOCH: Civil =
        Civil { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, weekday: 4, day_of_year: 1 };

    /// Breaks a number of seconds since 1970 down.
    pub fn of(secs: i64) -> Civil {
        let (last, c) = LAST.get();
        if last == secs {
            return c;
        }
        let c = Civil::compute(secs);
        LAST.set((secs, c));
        c
    }
    /// After Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
    fn compute(secs: i64) -> Civil {
        let (days, of_day) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        let z = days + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        // `doy` counts from the first of March.
        let day_of_year = if month > 2 { doy + 60 + i64::from(leap) } else { doy - 305 };
        Civil {
            year,
            month: month as u8,
            day: day as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
            day_of_year: day_of_year as u16,
        }
    }
    /// One number of it; `epoch` is the second it was made from.
    pub(crate) fn get(&self, n: Number, epoch: i64) -> i64 {
        let yday = i64::from(self.day_of_year) - 1;
        let wday = i64::from(self.weekday);
        match n {
            Number::Year => self.year,
            Number::Century => self.year.div_euclid(100),
            Number::YearOfCentury => self.year.rem_euclid(100),
            Number::Month => self.month.into(),
            Number::Day => self.day.into(),
            Number::Hour => self.hour.into(),
            Number::Hour12 => ((self.hour + 11) % 12 + 1).into(),
            Number::Minute => self.minute.into(),
            Number::Second => self.second.into(),
            Number::Epoch => epoch,
            Number::DayOfYear => yday + 1,
            Number::IsoWeekday => (wday + 6) % 7 + 1,
            Number::Weekday => wday,
            Number::SundayWeek => (yday + 7 - wday) / 7,
            Number::MondayWeek => (yday + 7 - (wday + 6) % 7) / 7,
            Number::IsoWeek => self.iso_week().1,
            Number::IsoYear => self.iso_week().0,
            Number::IsoYearOfCentury => self.iso_week().0.rem_euclid(100),
        }
    }
    /// ISO 8601: week 1 holds the year's first Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let monday_based = (i64::from(self.weekday) + 6) % 7;
        let week = (i64::from(self.day_of_year) - 1 - monday_based + 10) / 7;
        let weeks_in = |y: i64| {
            // 53 weeks when the year begins or ends on a Thursday.
            let dec31 = |y: i64| (y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400)).rem_euclid(7);
            if dec31(y) == 4 || dec31(y - 1) == 3 { 53 } else { 52 }
        };
        if week < 1 {
            (self.year - 1, weeks_in(self.year - 1))
        } else if week > weeks_in(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
    /// One name of it.
    pub fn name(&self, n: Name) -> &'static str {
        let (day, month) = (DAYS[usize::from(self.weekday)], MONTHS[usize::from(self.month) - 1]);
        match n {
            Name::Day => day,
            Name::DayShort => &day[..3],
            Name::Month => month,
            Name::MonthShort => &month[..3],
            Name::AmPm => ["AM", "PM"][usize::from(self.hour >= 12)],
            Name::AmPmLower => ["am", "pm"][usize::from(self.hour >= 12)],
        }
    }
}
