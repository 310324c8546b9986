//! The rounds of a call: what is asked, who comes back with answers, and what becomes of them.

use std::ops::ControlFlow;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Answered, Call, GATHER, MAX_ATTACHED, Phase, REPEAT, running};
use crate::{
    bridge,
    gateway::{
        GatewayError,
        parked::{
            Attachment, Retry,
            state::{Kind, RequestState},
        },
    },
    mcp::build,
};

impl Call {
    /// Tells the client what is asked, which ends its requests.
    pub(super) async fn begin_round(&mut self) {
        let questions = std::mem::take(&mut self.gathered);
        if let Phase::Running { gather, .. } = &mut self.phase {
            *gather = None;
        }
        if questions.is_empty() {
            return;
        }
        let limits = self.gateway.config().parked;
        let principal = self.relay.askable().map(|askable| askable.principal.clone());
        if self.place.is_none() {
            self.place = principal.and_then(|principal| self.gateway.parking.enter(&principal, limits));
        }
        if self.place.is_none() {
            tracing::warn!(upstream = %self.relay.upstream(), "too many calls wait for their clients (mcp.parked); a server's request is declined");
            for question in &questions {
                self.relay.decline(&question.request);
            }
            return;
        }
        self.round += 1;
        self.open = questions;
        self.phase = Phase::Waiting { until: Instant::now() + limits.ttl, expires: self.gateway.surroundings.clock.now() + limits.ttl };
        for attachment in std::mem::take(&mut self.attached) {
            self.tell_round(attachment).await;
        }
    }

    async fn tell_round(&mut self, attachment: Attachment) {
        let (Phase::Waiting { expires, .. }, Some(place), Some(askable)) = (&self.phase, &self.place, self.relay.askable()) else { return };
        let state = RequestState { kind: Kind::Waiting, id: place.id, round: self.round, expires: *expires };
        let state = self.gateway.parking.sealer.seal(&askable.bond(), &state.encode());
        let requests: Vec<_> = self.open.iter().map(|question| bridge::input_request(&question.request)).collect();
        let keys = self.open.iter().map(|question| question.key.as_str());
        let result = bridge::input_required(keys.zip(requests.iter().map(Vec::as_slice)), &state);
        let message = build::response(&attachment.id, &result);
        attachment.finish(Ok(message)).await;
    }

    pub(super) async fn retry(&mut self, retry: Retry) -> ControlFlow<()> {
        let Retry { round, digest, responses, attachment, verdict } = retry;
        let is_fresh = matches!(self.phase, Phase::Waiting { .. }) && round == self.round;
        let is_repeat = |answered: &Answered| answered.round == round && answered.digest == digest && answered.at.elapsed() < REPEAT;
        if !is_fresh {
            let repeats = self.answered.as_ref().is_some_and(is_repeat) && self.attached.len() < MAX_ATTACHED;
            // Whoever asked is told, if it still waits for the verdict.
            let _ = verdict.send(if repeats { Ok(()) } else { Err(GatewayError::InvalidState) });
            return if repeats { self.attach(attachment).await } else { ControlFlow::Continue(()) };
        }
        let found = match &responses {
            Some(raw) => bridge::input_responses(raw, self.open.iter().map(|question| question.key.as_str())),
            None => Ok(Vec::new()),
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let _ = verdict.send(Err(GatewayError::InvalidParams(why)));
                return ControlFlow::Continue(());
            }
        };
        if verdict.send(Ok(())).is_err() {
            return ControlFlow::Continue(());
        }
        if !self.open.is_empty() && found.iter().all(Option::is_none) {
            self.tell_round(attachment).await;
            return ControlFlow::Continue(());
        }
        self.answer(found);
        self.answered = Some(Answered { round, digest, at: Instant::now() });
        self.phase = running(&self.relay);
        if let (Phase::Running { gather, .. }, false) = (&mut self.phase, self.gathered.is_empty()) {
            *gather = Some(Instant::now() + GATHER);
        }
        self.attach(attachment).await
    }

    /// Passes the answers on; what has none is asked once more in the next round.
    fn answer(&mut self, answers: Vec<Option<Bytes>>) {
        let open = std::mem::take(&mut self.open);
        let mut missing = Vec::new();
        for (question, answer) in open.into_iter().zip(answers) {
            match (answer, question.request.id()) {
                (Some(answer), Some(id)) if self.end.is_none() => self.deliver(build::response(id, &answer)),
                (Some(_), _) => {}
                (None, _) => missing.push(question),
            }
        }
        self.gathered.splice(0..0, missing);
    }

    fn deliver(&self, answer: Bytes) {
        let (sent, failed) = (self.relay.send_up(answer), self.undelivered.0.clone());
        self.gateway.tasks.spawn(async move {
            if let Err(error) = sent.await {
                // The first failure ends the call.
                let _ = failed.try_send(error);
            }
        });
    }

    /// A client's request gets what there is, or waits for it.
    async fn attach(&mut self, attachment: Attachment) -> ControlFlow<()> {
        match (&self.phase, self.end.take()) {
            (_, Some((end, _))) => {
                self.attached.push(attachment);
                self.tell_end(end).await
            }
            (Phase::Waiting { .. }, None) => {
                self.tell_round(attachment).await;
                ControlFlow::Continue(())
            }
            (Phase::Running { .. } | Phase::Over { .. }, None) => {
                self.relay.turn_to(&attachment);
                self.attached.push(attachment);
                ControlFlow::Continue(())
            }
        }
    }
}
