//! What the weather does: every half second something may begin.

use std::time::Duration;

use dialtone_store::replicas::{Way, Weather};

use super::plan::{HOSTS, pick};
use super::world::World;

/// How often something may begin.
const EVERY: Duration = Duration::from_millis(500);
/// How long whoever comes next waits for all logs, at most.
const RELAYED_WITHIN: Duration = Duration::from_secs(40);
/// Between two hidden pauses of one host: there is one at most within a lease.
const HIDDEN_EVERY: Duration = Duration::from_secs(5);

fn ms(most: u64) -> Duration {
    Duration::from_millis(most)
}

impl World {
    pub(super) fn storm(&mut self) {
        let mut hidden = [Duration::ZERO; HOSTS];
        for host in 0..HOSTS {
            self.replicas.over(host).set_way(self.plan().line);
        }
        let ends = self.now() + self.plan().storm;
        if self.plan().is_relay {
            return self.relay(ends);
        }
        while self.now() < ends && !self.is_wrong() {
            self.revive();
            match self.dice.below(100) {
                _ if !self.plan().changes => {}
                0..35 => self.change_weather(),
                35..60 => self.change_line(),
                60..70 => self.still_replica(),
                _ => {}
            }
            if self.dice.below(100) < self.plan().trouble {
                self.trouble(&mut hidden);
            }
            if self.dice.below(100) < self.plan().thaws {
                self.thaw();
            }
            self.pass(EVERY);
        }
    }

    /// One process after the other has all logs, for a moment.
    fn relay(&mut self, ends: Duration) {
        let mut host = 0;
        while self.now() < ends && !self.is_wrong() {
            self.kill_all();
            self.change_weather();
            host = (host + 1) % HOSTS;
            let name = self.start(host);
            let most = self.now() + RELAYED_WITHIN;
            while self.now() < most && !self.has_all(&name) {
                self.pass(ms(50));
            }
            self.pass(self.dice.jitter(ms(3_000)));
        }
    }

    /// Something happens to a host.
    fn trouble(&mut self, hidden: &mut [Duration; HOSTS]) {
        let host = pick(&self.dice, HOSTS);
        match self.dice.below(10) {
            0 | 1 => self.kill(host),
            2 => self.leave(host),
            3..6 => {
                let time = ms(100) + self.dice.jitter(ms(8_000));
                self.stand_still(host, time, false);
            }
            6..8 if self.now() >= hidden[host] => {
                let most = self.plan().hidden;
                let time = most.min(ms(100) + self.dice.jitter(most));
                self.stand_still(host, time, true);
                hidden[host] = self.now() + time + HIDDEN_EVERY;
            }
            _ => {}
        }
    }

    /// What a host has sent is on its way for long, and it stands still until all that has been answered.
    fn thaw(&mut self) {
        let host = pick(&self.dice, HOSTS);
        let slow = ms(12_000);
        self.replicas.over(host).set_way(Way { slow, ..Way::default() });
        self.pass(ms(100) + self.dice.jitter(ms(300)));
        self.replicas.over(host).set_way(self.plan().line);
        self.stand_still(host, ms(8_000) + self.dice.jitter(ms(5_000)), false);
    }

    /// Among the replicas.
    fn change_weather(&mut self) {
        let (dice, plan) = (&self.dice, self.plan());
        let mut weather = Weather { dropped: plan.dropped[0], ..self.fair() };
        if dice.below(3) > 0 {
            weather.between = bad_way(dice.below(4), plan.late_by);
            let [least, most] = plan.dropped;
            weather.dropped = least + dice.below(most - least + 1);
            weather.undecided = [0, 10, 40][pick(dice, 3)];
            weather.repaired = [0, 0, 100][pick(dice, 3)];
        }
        self.replicas.set_weather(weather);
    }

    /// Between a host and the replicas.
    fn change_line(&mut self) {
        let (host, late_by) = (pick(&self.dice, HOSTS), self.plan().late_by);
        let kind = self.dice.below(6);
        let way = if kind < 4 { bad_way(kind, late_by) } else { self.plan().line };
        self.replicas.over(host).set_way(way);
    }

    fn still_replica(&mut self) {
        let time = ms(100) + self.dice.jitter(ms(4_000));
        self.replicas.stand_still(pick(&self.dice, 3), time);
    }

    /// Nothing goes wrong any more.
    pub(super) fn calm(&mut self) {
        for host in 0..HOSTS {
            self.replicas.over(host).set_way(Way::default());
        }
        let fair = self.fair();
        self.replicas.set_weather(fair);
    }

    fn fair(&self) -> Weather {
        let reads_from = if self.reads_at_one() { 1 } else { 2 };
        let between = Way { slow: ms(2), ..Way::default() };
        Weather { between, reads_from, ..Weather::fair() }
    }
}

fn bad_way(kind: u64, late_by: Duration) -> Way {
    let slow = ms(2);
    match kind {
        0 => Way { slow, lost: 10, late: 20, late_by },
        1 => Way { slow, lost: 0, late: 40, late_by },
        2 => Way { slow: ms(300), lost: 2, late: 2, late_by },
        3 => Way { slow, lost: 60, late: 20, late_by },
        _ => Way { slow, ..Way::default() },
    }
}
