use super::sim::Sim;
use super::*;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

const KIND: TimerKind = TimerKind::Other;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
fn poll(s: &mut Sleep) -> bool {
    poll_with(s, Waker::noop())
}
fn poll_with(s: &mut Sleep, w: &Waker) -> bool {
    Pin::new(s).poll(&mut Context::from_waker(w)).is_ready()
}

#[derive(Default)]
struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn fires_at_its_tick_and_not_before() {
    let sim = Sim::new();
    for after in [1, 2, 63, 64, 65, 4095, 4096, 4097, 15_000, 262_144, 3_600_000, 86_400_000] {
        let mut s = sleep(KIND, ms(after));
        assert!(!poll(&mut s));
        sim.advance(ms(after) - Duration::from_nanos(1));
        assert!(!poll(&mut s), "{after} ms: early");
        sim.advance(Duration::from_nanos(1));
        assert!(poll(&mut s), "{after} ms: late");
        assert!(poll(&mut s) && s.is_elapsed(), "stays ready");
    }
    assert_eq!(sim.timers(), 0);
}

#[test]
fn a_timer_that_is_started_again_wakes_again() {
    let sim = Sim::new();
    let count = Arc::new(Count::default());
    let waker: Waker = count.clone().into();
    let mut s = sleep(KIND, ms(10));
    for polled_when_over in [true, false, true] {
        assert!(!poll_with(&mut s, &waker) && !poll_with(&mut s, &waker));
        let before = count.0.load(Relaxed);
        sim.advance(ms(10));
        assert_eq!(count.0.load(Relaxed), before + 1);
        assert!(!polled_when_over || poll_with(&mut s, &waker));
        s.reset(ms(10));
    }
    // Another task that polls it is the one that is woken.
    let other = Arc::new(Count::default());
    assert!(!poll_with(&mut s, &waker) && !poll_with(&mut s, &other.clone().into()));
    let before = count.0.load(Relaxed);
    sim.advance(ms(10));
    assert_eq!((count.0.load(Relaxed), other.0.load(Relaxed)), (before, 1));
}

#[test]
fn a_fraction_of_a_millisecond_is_rounded_up() {
    let sim = Sim::new();
    sim.advance(Duration::from_micros(300));
    let mut s = sleep(KIND, Duration::from_micros(500));
    assert!(!poll(&mut s));
    sim.advance(Duration::from_micros(699));
    assert!(!poll(&mut s), "0.999 ms: the deadline of 0.8 ms is over, its tick is not");
    sim.advance(Duration::from_micros(1));
    assert!(poll(&mut s));
}

#[test]
fn order_of_wake_ups_is_that_of_the_deadlines() {
    struct Note(std::sync::Mutex<Vec<u64>>);
    struct One(Arc<Note>, u64);
    impl Wake for One {
        fn wake(self: Arc<Self>) {
            self.0.0.lock().unwrap().push(self.1);
        }
    }
    let sim = Sim::new();
    let notes = Arc::new(Note(Default::default()));
    let mut order: Vec<u64> = (1..400).map(|i| i * 7919 % 100_003).collect();
    let mut all: Vec<Sleep> = Vec::new();
    for &after in &order {
        let mut s = sleep(KIND, ms(after));
        assert!(!poll_with(&mut s, &Arc::new(One(notes.clone(), after)).into()));
        all.push(s);
    }
    sim.advance(ms(200_000));
    order.sort();
    assert_eq!(*notes.0.lock().unwrap(), order);
}

#[test]
fn dropping_cancels() {
    let sim = Sim::new();
    let count = Arc::new(Count::default());
    let waker: Waker = count.clone().into();
    let mut sleeps: Vec<Sleep> = (0..10).map(|i| sleep(KIND, ms(10 + i % 2))).collect();
    for s in &mut sleeps {
        assert!(!poll_with(s, &waker));
    }
    assert_eq!(sim.timers(), 10);
    for i in [9, 0, 4] {
        sleeps.remove(i);
    }
    sim.advance(ms(20));
    assert_eq!(count.0.load(Relaxed), 7);
    drop(sleeps);
    assert_eq!((sim.timers(), Arc::strong_count(&count)), (0, 2));
}

#[test]
fn reset_moves_the_deadline_both_ways() {
    let sim = Sim::new();
    let mut s = sleep(KIND, ms(100));
    assert!(!poll(&mut s));
    sim.advance(ms(90));
    s.reset(ms(100));
    sim.advance(ms(99));
    assert!(!poll(&mut s), "extended");
    s.reset(ms(5000));
    sim.advance(ms(10));
    s.reset(ms(7));
    sim.advance(ms(6));
    assert!(!poll(&mut s));
    sim.advance(ms(1));
    assert!(poll(&mut s), "shortened");
    s.reset(ms(10));
    assert!(!poll(&mut s), "starts anew after it has fired");
    sim.advance(ms(10));
    assert!(poll(&mut s));
    let mut unpolled = sleep(KIND, ms(10));
    unpolled.reset(ms(20));
    assert!(!poll(&mut unpolled));
    sim.advance(ms(19));
    assert!(!poll(&mut unpolled));
    sim.advance(ms(1));
    assert!(poll(&mut unpolled));
}

#[test]
fn only_the_last_waker_is_woken() {
    let sim = Sim::new();
    let (a, b) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut s = sleep(KIND, ms(5));
    assert!(!poll_with(&mut s, &a.clone().into()));
    assert!(!poll_with(&mut s, &b.clone().into()));
    sim.advance(ms(5));
    assert_eq!((a.0.load(Relaxed), b.0.load(Relaxed)), (0, 1));
}

#[test]
fn a_waker_may_touch_the_wheel_while_it_is_woken_and_dropped() {
    thread_local!(static HELD: RefCell<Vec<Sleep>> = const { RefCell::new(Vec::new()) });
    struct Touch;
    impl Wake for Touch {
        fn wake(self: Arc<Self>) {
            HELD.with(|h| h.borrow_mut().clear());
            HELD.with(|h| h.borrow_mut().push(sleep(KIND, ms(1))));
        }
    }
    impl Drop for Touch {
        fn drop(&mut self) {
            HELD.with(|h| h.borrow_mut().clear());
        }
    }
    let sim = Sim::new();
    let mut other = sleep(KIND, ms(50));
    poll(&mut other);
    HELD.with(|h| h.borrow_mut().push(other));
    let mut s = sleep(KIND, ms(5));
    assert!(!poll_with(&mut s, &Arc::new(Touch).into()));
    sim.advance(ms(5));
    assert!(poll(&mut s));
    let mut dropped = sleep(KIND, ms(5));
    assert!(!poll_with(&mut dropped, &Arc::new(Touch).into()));
    drop(dropped);
    assert_eq!(sim.timers(), 1);
}

#[test]
fn long_and_endless_timers() {
    let sim = Sim::new();
    let mut endless = sleep(KIND, Duration::MAX);
    let mut decade = sleep(KIND, Duration::from_secs(3650 * 86_400));
    assert!(!poll(&mut endless) && !poll(&mut decade));
    for _ in 0..40 {
        sim.advance(Duration::from_secs(91 * 86_400));
        assert!(!poll(&mut endless) && !poll(&mut decade));
    }
    sim.advance(Duration::from_secs(10 * 86_400));
    assert!(poll(&mut decade) && !poll(&mut endless));
}

#[test]
fn scaling_reaches_running_timers() {
    let sim = Sim::new();
    let kind = TimerKind::HttpDownstreamConnectionIdle;
    let mut a = sleep(kind, ms(1000));
    let mut other = sleep(TimerKind::HttpDownstreamStreamIdle, ms(1000));
    assert!(!poll(&mut a) && !poll(&mut other));
    set_scale(kind, Scale { factor: 0.5, min: ScaleMinimum::Duration(ms(200)) });
    sim.advance(ms(599));
    assert!(!poll(&mut a));
    sim.advance(ms(1));
    assert!(poll(&mut a) && !poll(&mut other), "200 + (1000 - 200) / 2");
    let mut b = sleep(kind, ms(1000));
    assert!(!poll(&mut b));
    set_scale(kind, Scale { factor: 0.0, min: ScaleMinimum::Fraction(0.1) });
    sim.advance(ms(100));
    assert!(poll(&mut b));
    let mut c = sleep(kind, ms(1000));
    assert!(!poll(&mut c));
    set_scale(kind, Scale::NONE);
    sim.advance(ms(999));
    assert!(!poll(&mut c), "pressure is over: the timer runs its whole time");
    sim.advance(ms(1));
    assert!(poll(&mut c));
}

#[test]
fn wall_clock_goes_with_it() {
    let sim = Sim::at(SystemTime::UNIX_EPOCH);
    let before = now();
    sim.advance(ms(1500));
    assert_eq!(wall(), SystemTime::UNIX_EPOCH + ms(1500));
    assert_eq!(now() - before, ms(1500));
    drop(sim);
    assert!(wall() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
}

/// Compares the wheel with a plain sorted list over many random operations.
#[test]
fn agrees_with_a_sorted_list() {
    let sim = Sim::new();
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % below
    };
    let mut clock = 0;
    let mut timers: Vec<(u64, Sleep)> = Vec::new();
    for _ in 0..20_000 {
        let after = match random(4) {
            0 => random(70),
            1 => random(5000),
            2 => random(300_000),
            _ => random(40_000_000),
        } + 1;
        match random(10) {
            0..=3 => {
                let mut s = sleep(KIND, ms(after));
                assert!(!poll(&mut s));
                timers.push((clock + after, s));
            }
            4..=5 if !timers.is_empty() => {
                let i = random(timers.len() as u64) as usize;
                timers[i].1.reset(ms(after));
                timers[i].0 = clock + after;
            }
            6 if !timers.is_empty() => drop(timers.swap_remove(random(timers.len() as u64) as usize)),
            _ => {
                let by = if random(3) == 0 { after } else { random(100) };
                clock += by;
                sim.advance(ms(by));
                for (at, s) in &mut timers {
                    assert_eq!(poll(s), *at <= clock, "due {at}, now {clock}");
                }
                timers.retain(|(at, _)| *at > clock);
            }
        }
        assert_eq!(sim.timers(), timers.len());
    }
}

#[test]
fn run_for_lets_tasks_chain_timers() {
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&rt, async {
        let sim = Sim::new();
        let ticks = Rc::new(RefCell::new(Vec::new()));
        let start = now();
        let t = ticks.clone();
        let task = tokio::task::spawn_local(async move {
            for _ in 0..3 {
                sleep(KIND, ms(10)).await;
                t.borrow_mut().push((now() - start).as_millis());
            }
        });
        sim.run_for(ms(35)).await;
        assert_eq!(*ticks.borrow(), [10, 20, 30]);
        task.await.unwrap();
    });
}

fn real<F: Future>(f: F) -> F::Output {
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&rt, async {
        tokio::task::spawn_local(run_wheel());
        f.await
    })
}

#[test]
fn with_tokio_never_early_and_hardly_late() {
    real(async {
        tokio::task::yield_now().await;
        for after in [1, 3, 20, 70] {
            let before = now();
            sleep(KIND, ms(after)).await;
            let took = now() - before;
            assert!(took >= ms(after), "{after} ms: fired after {took:?}");
            assert!(took < ms(after + 500), "{after} ms: fired after {took:?}");
        }
    });
}

#[test]
fn with_tokio_an_earlier_timer_reprograms_the_driver() {
    real(async {
        let late = tokio::task::spawn_local(sleep(KIND, Duration::from_secs(3600)));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let before = now();
        sleep(KIND, ms(10)).await;
        assert!(now() - before < ms(1000));
        late.abort();
    });
}

#[test]
fn with_tokio_a_busy_loop_catches_up() {
    real(async {
        let mut sleeps: Vec<_> = (1..5).map(|i| tokio::task::spawn_local(sleep(KIND, ms(i)))).collect();
        tokio::task::yield_now().await;
        let until = now() + ms(8);
        while now() < until {
            std::hint::spin_loop();
        }
        for s in sleeps.drain(..) {
            s.await.unwrap();
        }
    });
}

#[test]
fn timeout_bounds_a_future() {
    real(async {
        assert_eq!(timeout(KIND, ms(5), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(KIND, ms(5000), async { 7 }).await, Ok(7));
        let mut t = std::pin::pin!(timeout(KIND, ms(1000), std::future::pending::<()>()));
        assert_eq!(t.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    });
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Sleep>(), 24);
}

/// Not a test of speed: prints what a request pays (`cargo test --release -- --ignored --nocapture`).
#[test]
#[ignore = "a measurement"]
fn cost_of_a_cancelled_timer() {
    let _sim = Sim::new();
    let mut held: Vec<Sleep> = (0..10_000).map(|i| sleep(KIND, ms(15_000 + i % 997))).collect();
    held.iter_mut().for_each(|s| assert!(!poll(s)));
    let waker: Waker = Arc::new(Count::default()).into();
    let t = Instant::now();
    const N: u32 = 5_000_000;
    let base = now();
    for i in 0..N {
        let mut s = sleep_from(KIND, base, ms(15_000 + u64::from(i % 13)));
        assert!(!poll_with(&mut s, &waker));
    }
    println!("create, poll, cancel: {:?}", t.elapsed() / N);
    let t = Instant::now();
    for i in 0..N {
        held[(i % 10_000) as usize].reset_from(base, ms(20_000));
    }
    println!("extend: {:?}", t.elapsed() / N);
}

#[test]
fn a_timer_counts_from_when_it_is_said_to_begin() {
    let sim = Sim::new();
    let kind = TimerKind::HttpDownstreamStreamIdle;
    let (began, mut a) = (now(), sleep(kind, ms(1000)));
    assert!(!poll(&mut a) && a.began_since(began));
    sim.advance(ms(600));
    let active = now();
    assert!(!a.began_since(active));
    sim.advance(ms(400));
    assert!(poll(&mut a));
    a.reset_from(active, ms(1000));
    assert!(!poll(&mut a) && a.began_since(active));
    // Scaled, it counts from there, too: 400 of 1000 are over, and 500 are enough now.
    set_scale(kind, Scale { factor: 0.5, min: ScaleMinimum::Fraction(0.0) });
    sim.advance(ms(99));
    assert!(!poll(&mut a));
    sim.advance(ms(1));
    assert!(poll(&mut a));
}
