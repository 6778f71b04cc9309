//! How long a connection pauses after a read that emptied the socket, so that the next read brings many messages.
//!
//! A broker writes each message by itself, and at real rates a wake-up per message costs most of the time: one with cold caches
//! takes as long as a hundred messages. Rows wait for their INSERT anyway. So the thread pauses where the rest will bring
//! more than two messages, judged by the last read or by the smoothed distance between arrivals.
//!
//! The rest doubles from read to read, up to the limit that the configuration gives, while the socket's buffer has room: a
//! broker whose messages find no room keeps them, and may drop them at QoS 0. A stream that thins out ends it at once.
//!
//! A broker that waits for acknowledgements sends nothing more. Its window is not known, but where the same number of messages
//! lacks an acknowledgement read after read, and never more, that number is taken for it ([`WindowGuess`]); then pauses end long
//! before the window can be full.

use std::time::{Duration, Instant};

/// The first rest of a stream, and the shortest.
const MIN_REST: Duration = Duration::from_millis(1);
/// This many messages are not worth a rest.
const FEW_MESSAGES: usize = 2;
/// A longer distance between messages counts as this one.
const MAX_DISTANCE: Duration = Duration::from_secs(1);
/// The parts of the socket's buffer below which a rest grows, and above which it is halved.
const FULL: (f32, f32) = (0.25, 0.5);
/// The same in bytes. More of them leave the processor's caches before they are read; and where the system does not say how full
/// the buffer is, small segments take several times their bytes in it.
const ENOUGH_BYTES: (usize, usize) = (512 << 10, 1 << 20);
const ENOUGH_UNKNOWN_BYTES: (usize, usize) = (64 << 10, 192 << 10);
/// In smaller windows pauses are the shortest there are.
const SMALL_WINDOW: usize = 100;
/// A rest lets a window fill by this part of its room, at the rate that was seen: the real one may be higher.
const PARTS_OF_WINDOW: u32 = 4;

/// The reads since the last rest.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gathered {
    pub messages: usize,
    pub bytes: usize,
    /// Which part of the socket's buffer was in use at the end of the rest; `None` where the system does not say.
    pub fill: Option<f32>,
}

/// Messages without an acknowledgement.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unacknowledged {
    pub messages: usize,
    /// The broker's window, as far as it is known otherwise.
    pub window: Option<usize>,
}

#[derive(Debug)]
pub struct ReadPacer {
    max: Duration,
    rest: Duration,
    last_read: Option<Instant>,
    /// The smoothed distance between two messages.
    distance: Duration,
    window: WindowGuess,
}

impl ReadPacer {
    /// Pauses last at most `max`; none is made if that is zero.
    pub fn new(max: Duration) -> ReadPacer {
        ReadPacer {
            max,
            rest: MIN_REST.min(max),
            last_read: None,
            distance: MAX_DISTANCE,
            window: WindowGuess::default(),
        }
    }

    /// The rest after reads that brought this and emptied the socket; zero: wait for the next bytes.
    pub fn after(&mut self, gathered: Gathered, unacknowledged: Unacknowledged, at: Instant) -> Duration {
        if self.max.is_zero() {
            return Duration::ZERO;
        }
        let since = self.last_read.map_or(MAX_DISTANCE, |last| at.saturating_duration_since(last));
        let since = since.min(MAX_DISTANCE);
        match u32::try_from(gathered.messages).unwrap_or(u32::MAX) {
            0 => self.distance = self.distance.max(since),
            messages => {
                self.distance = (3 * self.distance + since / messages) / 4;
                self.last_read = Some(at);
            }
        }
        self.window.observe(unacknowledged.messages, at);
        self.adapt(gathered);
        let is_dense = self.distance * FEW_MESSAGES as u32 <= self.max;
        if gathered.messages <= FEW_MESSAGES && !is_dense {
            self.rest = MIN_REST.min(self.max);
            return Duration::ZERO;
        }
        match self.window_of(unacknowledged) {
            Some(window) if window < SMALL_WINDOW => self.rest.min(MIN_REST),
            Some(window) => {
                let room = window.saturating_sub(unacknowledged.messages) as u32 / PARTS_OF_WINDOW;
                self.rest.min(self.distance.saturating_mul(room).max(MIN_REST))
            }
            None => self.rest,
        }
    }

    fn adapt(&mut self, Gathered { bytes, fill, .. }: Gathered) {
        let (few, many) = if fill.is_some() { ENOUGH_BYTES } else { ENOUGH_UNKNOWN_BYTES };
        let fill = fill.unwrap_or(0.0);
        if bytes > many || fill > FULL.1 {
            self.rest = (self.rest / 2).max(MIN_REST.min(self.max));
        } else if bytes < few && fill < FULL.0 {
            self.rest = (2 * self.rest).min(self.max);
        }
    }

    /// A number that was exceeded is none.
    fn window_of(&self, unacknowledged: Unacknowledged) -> Option<usize> {
        let most = self.window.most;
        [unacknowledged.window, self.window.assumed]
            .into_iter()
            .flatten()
            .filter(|window| *window >= most)
            .min()
    }

    /// Whether most of the broker's window is in use, as far as it is known. A full one is for silence to show, which also
    /// proves it.
    pub fn is_window_nearly_full(&self, unacknowledged: Unacknowledged) -> bool {
        let window = self.window_of(unacknowledged);
        window.is_some_and(|window| (window - window / 4..window).contains(&unacknowledged.messages))
    }

    /// Whether more messages lack an acknowledgement than ever before on this connection: the broker may have no more for us
    /// until it gets some.
    pub fn is_window_unproved(&self, unacknowledged: usize) -> bool {
        unacknowledged >= self.window.most
    }
}

/// Guesses the broker's window from the number of messages that lack an acknowledgement after each read.
#[derive(Debug, Default)]
struct WindowGuess {
    most: usize,
    /// Reads in a row after which it was `most`.
    equal: u32,
    assumed: Option<usize>,
    /// When it is tried again whether there is a window.
    until: Option<Instant>,
    /// How often that showed the same number.
    confirmed: u32,
}

/// This many equal reads show a window.
const EQUAL_READS: u32 = 3;
/// How long the first guess is believed; each one that confirms it doubles that.
const BELIEVED: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 6;

impl WindowGuess {
    fn observe(&mut self, unacknowledged: usize, at: Instant) {
        if unacknowledged > self.most {
            *self = WindowGuess { most: unacknowledged, ..WindowGuess::default() };
            return;
        }
        if self.until.is_some_and(|until| at >= until) {
            (self.assumed, self.until, self.equal) = (None, None, 0);
        }
        self.equal = if unacknowledged == self.most { self.equal + 1 } else { 0 };
        if self.most > FEW_MESSAGES && self.equal >= EQUAL_READS && self.assumed.is_none() {
            self.assumed = Some(self.most);
            self.until = Some(at + BELIEVED * (1 << self.confirmed));
            self.confirmed = (self.confirmed + 1).min(MAX_DOUBLINGS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(50);
    const MESSAGE: usize = 138;

    /// The pauses of a stream, in ms: each read brings what came during the rest before it. The socket's buffer has room for
    /// `room` messages.
    fn pauses(pacer: &mut ReadPacer, per_second: usize, room: usize) -> Vec<u128> {
        let mut at = pacer.last_read.unwrap_or_else(Instant::now);
        let mut rest = Duration::ZERO;
        let pauses = (0..60).map(|_| {
            // Without a rest the next message wakes the thread.
            let waited = rest.max(Duration::from_micros(1_000_000u64.div_ceil(per_second as u64)));
            at += waited;
            let came = (per_second * waited.as_micros() as usize / 1_000_000).max(1);
            let messages = came.min(room);
            let fill = Some(messages as f32 / room as f32);
            let gathered = Gathered { messages, bytes: messages * MESSAGE, fill };
            rest = pacer.after(gathered, Unacknowledged::default(), at);
            rest.as_millis()
        });
        pauses.collect()
    }

    #[test]
    fn a_steady_stream_is_read_once_in_the_longest_rest() {
        for per_second in [60, 1_000, 10_000, 60_000] {
            let pauses = pauses(&mut ReadPacer::new(MOST), per_second, usize::MAX);
            assert_eq!(pauses[59], 50, "{per_second} a second: {pauses:?}");
        }
        let dense = pauses(&mut ReadPacer::new(MOST), 60_000, usize::MAX);
        assert_eq!(dense[19..30], [50; 11], "it grows quickly: {dense:?}");
    }

    #[test]
    fn a_rest_never_fills_the_buffer_of_the_socket() {
        let pauses = pauses(&mut ReadPacer::new(MOST), 60_000, 1_000);
        // 1,000 messages are 16.7 ms of the stream, and half of that is room enough.
        assert!(pauses[30..].iter().all(|rest| (3..=8).contains(rest)), "{pauses:?}");
    }

    #[test]
    fn a_flood_is_read_after_short_pauses() {
        let pauses = pauses(&mut ReadPacer::new(MOST), 1_500_000, usize::MAX);
        assert!(pauses[30..].iter().all(|rest| (1..=6).contains(rest)), "{pauses:?}");
    }

    #[test]
    fn a_slow_stream_is_read_as_it_comes() {
        assert_eq!(pauses(&mut ReadPacer::new(MOST), 30, usize::MAX), [0; 60]);
    }

    #[test]
    fn a_stream_that_thins_out_does_not_wait() {
        let mut pacer = ReadPacer::new(MOST);
        pauses(&mut pacer, 1_000, usize::MAX);
        let mut at = pacer.last_read.unwrap();
        let mut one_later = || {
            at += Duration::from_millis(500);
            pacer.after(Gathered { messages: 1, ..Gathered::default() }, Unacknowledged::default(), at)
        };
        assert_eq!(one_later(), Duration::ZERO);
    }

    #[test]
    fn a_window_that_may_fill_is_not_waited_for() {
        let at = Instant::now();
        let mut pacer = ReadPacer::new(MOST);
        let known = Unacknowledged { messages: 5, window: Some(20) };
        let gathered = Gathered { messages: 5, ..Gathered::default() };
        assert_eq!(pacer.after(gathered, known, at), MIN_REST);
        assert!(!pacer.is_window_nearly_full(known));
        assert!(pacer.is_window_nearly_full(Unacknowledged { messages: 16, ..known }));
        assert!(!pacer.is_window_nearly_full(Unacknowledged { messages: 20, ..known }));
        assert!((0..20).all(|_| pacer.after(gathered, known, at) == MIN_REST));

        pauses(&mut pacer, 10_000, usize::MAX);
        let at = pacer.last_read.unwrap() + MOST;
        let wide = |messages| Unacknowledged { messages, window: Some(1_000) };
        let gathered = Gathered { messages: 500, ..Gathered::default() };
        let rest = pacer.after(gathered, wide(500), at);
        assert!(rest > 10 * MIN_REST && rest < 13 * MIN_REST, "{rest:?}");
        assert_eq!(pacer.after(gathered, wide(1_000), at + MOST), MIN_REST);
    }

    #[test]
    fn a_window_shows_itself_by_equal_reads() {
        let mut at = Instant::now();
        let mut pacer = ReadPacer::new(MOST);
        let mut read = |messages| {
            at += Duration::from_millis(50);
            let gathered = Gathered { messages, ..Gathered::default() };
            pacer.after(gathered, Unacknowledged { messages, window: None }, at)
        };
        let pauses: Vec<_> = (0..14).map(|_| read(20)).collect();
        assert!(pauses.contains(&MIN_REST) && pauses[13] == MIN_REST, "{pauses:?}");
        // More than that: it was none.
        assert!(read(21) > MIN_REST);
    }

    #[test]
    fn a_guess_is_tried_again() {
        let mut at = Instant::now();
        let mut guess = WindowGuess::default();
        let mut assumed = 0;
        for _ in 0..600 {
            at += Duration::from_millis(50);
            guess.observe(20, at);
            assumed += usize::from(guess.assumed == Some(20));
        }
        assert!(assumed > 560 && assumed < 600, "{assumed} of 600");
        guess.observe(40, at);
        assert_eq!((guess.assumed, guess.most), (None, 40));
    }

    #[test]
    fn it_can_be_off() {
        let gathered = Gathered { messages: 1000, ..Gathered::default() };
        let mut pacer = ReadPacer::new(Duration::ZERO);
        assert_eq!(pacer.after(gathered, Unacknowledged::default(), Instant::now()), Duration::ZERO);
    }
}
