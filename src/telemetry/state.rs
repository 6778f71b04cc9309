//! The states of a pipeline, as events and metrics name them.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    Starting,
    Running,
    Paused,
    Stopping,
    Stopped,
}

impl State {
    pub const ALL: [State; 6] =
        [State::Idle, State::Starting, State::Running, State::Paused, State::Stopping, State::Stopped];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Starting => "starting",
            State::Running => "running",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }
}
