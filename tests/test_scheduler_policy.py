"""Who is loaded, who waits and who goes, driven by hand: no processes, no clocks."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llamaherd.duration import FOREVER, MINUTE, SECOND
from llamaherd.errors import (
    LlamaherdError,
    LoadError,
    Overloaded,
    RunnerDied,
    ShuttingDown,
)
from llamaherd.scheduler.events import (
    Effect,
    Event,
    Grant,
    MemoryMeasured,
    Reject,
    RequestArrived,
    RequestLeft,
    RunnerFailed,
    RunnerGone,
    RunnerPlaced,
    RunnerReady,
    ShutdownAsked,
    StartRunner,
    StopRunner,
    TimePassed,
    UnloadAsked,
)
from llamaherd.scheduler.memory import Memory
from llamaherd.scheduler.policy import Limits, Phase, Policy

GIB = 1 << 30


class Desk:
    """A policy, the time, and what came of each request. Runners are named by their key."""

    def __init__(
        self, max_loaded: int = 3, max_queue: int = 100, free: int = 100, slots: int = 2
    ) -> None:
        self.policy = Policy(Limits(max_loaded, max_queue, keep_alive=5 * MINUTE))
        self.now = 0
        self.slots = slots
        self.effects: list[Effect] = []
        self.granted: dict[int, int] = {}
        self.rejected: dict[int, LlamaherdError] = {}
        self.needs: dict[int, Memory] = {}
        self.requests = 0
        self.measure(free)

    def handle(self, event: Event) -> list[Effect]:
        effects = self.policy.handle(event, self.now)
        self.effects += effects
        for effect in effects:
            match effect:
                case Grant(request, runner):
                    self.granted[request] = runner
                case Reject(request, error):
                    self.rejected[request] = error
                case StartRunner(runner, request):
                    # The loop places a runner before it tells anything else.
                    self.handle(RunnerPlaced(runner, self.needs[request]))
        return effects

    def measure(self, free: int, vram: int = 0) -> None:
        self.handle(MemoryMeasured(Memory(free, vram)))

    def arrive(
        self,
        key: str = "a",
        configuration: object = None,
        *,
        needs: int = 10,
        vram: int = 0,
        pinned: int = 0,
        keep_alive: int | None = None,
    ) -> int:
        self.requests += 1
        self.needs[self.requests] = Memory(needs, vram)
        self.handle(
            RequestArrived(
                self.requests, key, configuration, Memory(needs, vram), pinned, keep_alive
            )
        )
        return self.requests

    def leave(self, *requests: int) -> None:
        for request in requests:
            self.handle(RequestLeft(request))

    def runner(self, key: str) -> int:
        return next(runner.id for runner in self.policy.runners.values() if runner.key == key)

    def ready(self, key: str = "a") -> None:
        self.handle(RunnerReady(self.runner(key), self.slots))

    def gone(self, key: str) -> None:
        self.handle(RunnerGone(self.runner(key)))

    def load(self, key: str = "a", **request: Any) -> int:
        """A request that has its runner to itself."""
        number = self.arrive(key, **request)
        self.ready(key)
        assert number in self.granted
        return number

    def idle(self, key: str = "a", **request: Any) -> None:
        """A loaded model that nobody uses."""
        self.leave(self.load(key, **request))

    def pass_time(self, duration: int) -> None:
        self.now += duration
        self.handle(TimePassed())

    def phases(self) -> dict[str, str]:
        return {runner.key: runner.phase.name for runner in self.policy.runners.values()}

    def settle(self) -> None:
        """Let all stopping runners end and all starting ones get ready."""
        while pending := [r for r in self.policy.runners.values() if r.phase is not Phase.READY]:
            for runner in pending:
                if runner.phase is Phase.STOPPING:
                    self.handle(RunnerGone(runner.id))
                elif runner.phase is Phase.STARTING:
                    self.handle(RunnerReady(runner.id, self.slots))


class TestLoading:
    def test_a_model_is_loaded_on_demand(self) -> None:
        desk = Desk()
        request = desk.arrive()
        assert desk.phases() == {"a": "STARTING"}
        assert request not in desk.granted
        desk.ready()
        assert desk.granted == {request: desk.runner("a")}

    def test_a_loaded_model_is_used_again(self) -> None:
        desk = Desk()
        desk.idle()
        runner = desk.runner("a")
        assert desk.granted[desk.arrive()] == runner

    def test_those_who_come_while_it_loads_wait_for_it(self) -> None:
        desk = Desk()
        first, second = desk.arrive(), desk.arrive()
        assert sum(isinstance(effect, StartRunner) for effect in desk.effects) == 1
        desk.ready()
        assert set(desk.granted) == {first, second}

    def test_a_load_that_fails_fails_all_who_wait_for_it(self) -> None:
        desk = Desk()
        first, second, other = desk.arrive("a"), desk.arrive("a"), desk.arrive("b")
        error = LoadError("bad magic")
        desk.handle(RunnerFailed(desk.runner("a"), error))
        assert desk.rejected == {first: error, second: error}
        desk.ready("b")
        assert other in desk.granted

    def test_a_load_that_nobody_waits_for_any_more_is_given_up(self) -> None:
        desk = Desk()
        first, second = desk.arrive(), desk.arrive()
        desk.leave(first)
        assert desk.phases() == {"a": "STARTING"}
        desk.leave(second)
        assert desk.phases() == {"a": "STOPPING"}

    def test_another_request_waits_for_the_end_of_a_load_given_up(self) -> None:
        desk = Desk()
        desk.leave(desk.arrive())
        request = desk.arrive()
        assert desk.phases() == {"a": "STOPPING"}
        desk.settle()
        assert request in desk.granted

    def test_a_runner_that_died_is_replaced_for_the_next_request(self) -> None:
        desk = Desk()
        lost = desk.load()
        desk.gone("a")
        assert desk.phases() == {}
        desk.leave(lost)
        desk.load()

    def test_those_who_wait_for_a_runner_that_died_get_another(self) -> None:
        desk = Desk(slots=1)
        desk.load()
        waiting = desk.arrive()
        desk.gone("a")
        desk.settle()
        assert waiting in desk.granted


class TestSlots:
    def test_no_more_requests_than_slots(self) -> None:
        desk = Desk(slots=2)
        first = desk.load()
        second, third = desk.arrive(), desk.arrive()
        assert second in desk.granted
        assert third not in desk.granted
        desk.leave(first)
        assert third in desk.granted

    def test_a_request_that_gave_up_waiting_gets_nothing(self) -> None:
        desk = Desk(slots=1)
        first = desk.load()
        second, third = desk.arrive(), desk.arrive()
        desk.leave(second)
        desk.leave(first)
        assert set(desk.granted) == {first, third}


class TestQueue:
    def test_too_many_requests_are_rejected(self) -> None:
        desk = Desk(max_queue=2, slots=1)
        desk.load()
        waiting = [desk.arrive(), desk.arrive()]
        late = desk.arrive("b")
        assert isinstance(desk.rejected[late], Overloaded)
        assert not set(waiting) & set(desk.rejected)

    def test_without_a_queue_one_request_may_still_load_its_model(self) -> None:
        desk = Desk(max_queue=0)
        first = desk.arrive()
        assert isinstance(desk.rejected[desk.arrive()], Overloaded)
        desk.ready()
        assert first in desk.granted


class TestKeepAlive:
    def test_a_model_stays_for_the_default_time(self) -> None:
        desk = Desk()
        desk.idle()
        assert desk.policy.deadline == 5 * MINUTE
        desk.pass_time(5 * MINUTE - 1)
        assert desk.phases() == {"a": "READY"}
        desk.pass_time(1)
        assert desk.phases() == {"a": "STOPPING"}
        assert desk.policy.deadline is None

    def test_a_request_says_otherwise(self) -> None:
        desk = Desk()
        desk.idle(keep_alive=10 * SECOND)
        assert desk.policy.deadline == 10 * SECOND

    def test_zero_unloads_after_the_last_request(self) -> None:
        desk = Desk()
        first = desk.load(keep_alive=0)
        second = desk.arrive(keep_alive=0)
        desk.leave(first)
        assert desk.phases() == {"a": "READY"}
        desk.leave(second)
        assert desk.phases() == {"a": "STOPPING"}

    def test_zero_still_serves_those_who_wait(self) -> None:
        desk = Desk(slots=1)
        first = desk.load(keep_alive=0)
        waiting = desk.arrive(keep_alive=0)
        desk.leave(first)
        assert waiting in desk.granted

    def test_for_ever(self) -> None:
        desk = Desk()
        desk.idle(keep_alive=FOREVER)
        assert desk.policy.deadline is None
        desk.pass_time(100 * 365 * 24 * 60 * MINUTE)
        assert desk.phases() == {"a": "READY"}

    def test_each_request_renews_it(self) -> None:
        desk = Desk()
        desk.idle()
        desk.pass_time(4 * MINUTE)
        request = desk.arrive()
        assert desk.policy.deadline is None
        desk.pass_time(4 * MINUTE)
        desk.leave(request)
        assert desk.policy.deadline == 13 * MINUTE

    def test_a_request_that_says_nothing_leaves_it_as_it_is(self) -> None:
        desk = Desk()
        desk.idle(keep_alive=FOREVER)
        desk.leave(desk.arrive())
        assert desk.policy.deadline is None
        desk.leave(desk.arrive(keep_alive=SECOND))
        assert desk.policy.deadline == SECOND

    def test_what_is_shown_of_a_busy_model(self) -> None:
        desk = Desk()
        desk.load(keep_alive=SECOND)
        (runner,) = desk.policy.runners.values()
        assert runner.until(desk.now) == SECOND
        desk.load("b", keep_alive=FOREVER)
        assert desk.policy.runners[desk.runner("b")].until(7) == FOREVER


class TestRoom:
    def test_several_models_stay_loaded(self) -> None:
        desk = Desk(max_loaded=3)
        for key in "abc":
            desk.idle(key)
        assert desk.phases() == {"a": "READY", "b": "READY", "c": "READY"}

    def test_one_too_many_and_the_least_recently_used_goes(self) -> None:
        desk = Desk(max_loaded=2)
        desk.idle("a")
        desk.now += 1
        desk.idle("b")
        request = desk.arrive("c")
        assert desk.phases() == {"a": "STOPPING", "b": "READY"}
        desk.settle()
        assert request in desk.granted
        assert desk.phases() == {"b": "READY", "c": "READY"}

    def test_the_one_that_would_go_soonest_goes_first(self) -> None:
        desk = Desk(max_loaded=2)
        desk.idle("a", keep_alive=FOREVER)
        desk.now += 1
        desk.idle("b")
        desk.arrive("c")
        assert desk.phases() == {"a": "READY", "b": "STOPPING"}

    def test_memory_makes_room_too(self) -> None:
        desk = Desk(free=100)
        desk.idle("a", needs=40)
        desk.idle("b", needs=40)
        desk.measure(20)
        desk.arrive("c", needs=50)
        assert desk.phases() == {"a": "STOPPING", "b": "READY"}

    def test_models_that_are_mapped_and_count_as_free_count_all_the_same(self) -> None:
        desk = Desk(free=100)
        desk.idle("a", needs=60)
        desk.measure(95)
        desk.arrive("b", needs=50)
        assert desk.phases() == {"a": "STOPPING"}

    def test_models_that_still_load_have_not_taken_theirs_yet(self) -> None:
        desk = Desk(free=100)
        desk.idle("a", needs=10)
        desk.measure(60)
        desk.arrive("b", needs=40)
        desk.arrive("c", needs=40)
        assert desk.phases() == {"a": "STOPPING", "b": "STARTING"}

    def test_accelerators_count_by_themselves(self) -> None:
        desk = Desk()
        desk.measure(100, vram=50)
        desk.idle("a", needs=0, vram=40)
        desk.arrive("b", needs=10, vram=0)
        assert desk.phases() == {"a": "READY", "b": "STARTING"}
        desk.arrive("c", needs=0, vram=20)
        assert desk.phases() == {"a": "STOPPING", "b": "STARTING"}

    def test_a_runner_is_told_the_room_it_has(self) -> None:
        desk = Desk(free=100)
        desk.arrive("a", needs=30)
        desk.arrive("b", needs=20)
        rooms = [effect.room.host for effect in desk.effects if isinstance(effect, StartRunner)]
        assert rooms == [100, 70]

    def test_alone_a_model_is_tried_whatever_its_size(self) -> None:
        desk = Desk(free=100)
        desk.idle("a")
        request = desk.arrive("b", needs=1000)
        desk.settle()
        assert request in desk.granted
        assert desk.phases() == {"b": "READY"}

    def test_unless_what_it_must_have_at_once_is_not_there(self) -> None:
        desk = Desk(free=2 * GIB)
        request = desk.arrive(needs=4 * GIB, pinned=3 * GIB)
        assert str(desk.rejected[request]) == (
            "model requires more system memory (3.0 GiB) than is available (2.0 GiB)"
        )
        assert desk.phases() == {}

    def test_nobody_goes_for_what_could_never_start(self) -> None:
        desk = Desk(free=2 * GIB)
        desk.idle("a", needs=GIB)
        desk.measure(GIB)
        request = desk.arrive("b", needs=4 * GIB, pinned=3 * GIB)
        assert "than is available (2.0 GiB)" in str(desk.rejected[request])
        assert desk.phases() == {"a": "READY"}
        desk.arrive("c", needs=2 * GIB, pinned=2 * GIB)
        assert desk.phases() == {"a": "STOPPING"}

    def test_busy_models_are_waited_for(self) -> None:
        desk = Desk(max_loaded=1)
        busy = desk.load("a")
        waiting = desk.arrive("b")
        assert desk.phases() == {"a": "READY"}
        desk.leave(busy)
        assert desk.phases() == {"a": "STOPPING"}
        desk.settle()
        assert waiting in desk.granted

    def test_an_idle_model_goes_before_a_busy_one(self) -> None:
        desk = Desk(max_loaded=2)
        desk.load("a")
        desk.now += 1
        desk.idle("b")
        desk.arrive("c")
        assert desk.phases() == {"a": "READY", "b": "STOPPING"}


class TestFairness:
    def test_a_stream_of_requests_does_not_starve_another_model(self) -> None:
        desk = Desk(max_loaded=1, slots=2)
        stream = [desk.load("a"), desk.arrive("a")]
        waiting = desk.arrive("b")
        for _ in range(5):
            stream.append(desk.arrive("a"))
        desk.leave(stream[0])
        assert stream[2] not in desk.granted
        desk.leave(stream[1])
        desk.settle()
        assert waiting in desk.granted
        desk.leave(waiting)
        desk.settle()
        assert stream[2] in desk.granted

    def test_requests_from_before_are_served_first(self) -> None:
        desk = Desk(max_loaded=1, slots=1)
        first = desk.load("a")
        second = desk.arrive("a")
        waiting = desk.arrive("b")
        desk.leave(first)
        assert second in desk.granted
        desk.leave(second)
        desk.settle()
        assert waiting in desk.granted

    def test_only_the_model_that_must_go_is_held_back(self) -> None:
        desk = Desk(max_loaded=2, slots=2)
        desk.load("a")
        desk.now += 1
        desk.load("b")
        desk.arrive("c")
        assert desk.arrive("a") not in desk.granted
        assert desk.arrive("b") in desk.granted

    def test_the_one_that_must_go_stays_the_same_while_others_are_used(self) -> None:
        desk = Desk(max_loaded=2, slots=2)
        first, second = desk.load("a"), desk.arrive("a")
        desk.now += 1
        desk.load("b")
        waiting = desk.arrive("c")
        for request in (first, second):
            desk.now += 1
            desk.arrive("b")
            desk.leave(request)
        desk.settle()
        assert waiting in desk.granted

    def test_no_later_model_takes_the_room_that_an_earlier_one_waits_for(self) -> None:
        desk = Desk(free=100)
        busy = desk.load("a", needs=60)
        desk.measure(40)
        big = desk.arrive("b", needs=90)
        small = desk.arrive("c", needs=10)
        assert desk.phases() == {"a": "READY"}
        desk.leave(busy)
        desk.settle()
        assert big in desk.granted
        desk.leave(big)
        desk.settle()
        assert small in desk.granted


class TestConfigurations:
    def test_another_configuration_reloads_the_model_once_it_is_idle(self) -> None:
        desk = Desk()
        busy = desk.load(configuration=2048)
        other = desk.arrive(configuration=4096)
        assert desk.phases() == {"a": "READY"}
        desk.leave(busy)
        assert desk.phases() == {"a": "STOPPING"}
        desk.settle()
        assert other in desk.granted
        assert desk.policy.runners[desk.runner("a")].configuration == 4096

    def test_an_idle_one_at_once(self) -> None:
        desk = Desk()
        desk.idle(configuration=2048)
        desk.arrive(configuration=4096)
        assert desk.phases() == {"a": "STOPPING"}

    def test_a_stream_of_one_configuration_does_not_starve_another(self) -> None:
        desk = Desk(slots=2)
        busy = desk.load(configuration=2048)
        other = desk.arrive(configuration=4096)
        later = desk.arrive(configuration=2048)
        assert later not in desk.granted
        desk.leave(busy)
        desk.settle()
        assert other in desk.granted
        desk.leave(other)
        desk.settle()
        assert later in desk.granted


class TestUnload:
    def test_requests_in_progress_are_not_waited_for(self) -> None:
        desk = Desk()
        desk.load("a")
        desk.load("b")
        desk.handle(UnloadAsked("a"))
        assert desk.phases() == {"a": "STOPPING", "b": "READY"}

    def test_requests_that_wait_for_the_model_are_rejected(self) -> None:
        desk = Desk(slots=1)
        desk.load("a")
        waiting = desk.arrive("a")
        desk.handle(UnloadAsked("a"))
        assert isinstance(desk.rejected[waiting], RunnerDied)

    def test_a_load_is_given_up(self) -> None:
        desk = Desk()
        request = desk.arrive("a")
        desk.handle(UnloadAsked("a"))
        assert desk.phases() == {"a": "STOPPING"}
        assert request in desk.rejected
        desk.ready("a")
        assert desk.phases() == {"a": "STOPPING"}

    def test_of_what_is_not_loaded_changes_nothing(self) -> None:
        desk = Desk()
        desk.idle("a")
        desk.handle(UnloadAsked("b"))
        assert desk.phases() == {"a": "READY"}


class TestShutdown:
    def test_everything_ends(self) -> None:
        desk = Desk(slots=1)
        desk.load("a")
        waiting = desk.arrive("a")
        loading = desk.arrive("b")
        desk.handle(ShutdownAsked())
        assert desk.phases() == {"a": "STOPPING", "b": "STOPPING"}
        for request in (waiting, loading, desk.arrive("c")):
            assert isinstance(desk.rejected[request], ShuttingDown)
        desk.settle()
        assert desk.phases() == {}


class World(RuleBasedStateMachine):
    """Anything may happen in any order; these promises hold all the same.

    A model of its own keeps account of what the policy was told and asked for.
    """

    @initialize(max_loaded=st.integers(1, 3), max_queue=st.integers(0, 4), free=st.integers(0, 100))
    def begin(self, max_loaded: int, max_queue: int, free: int) -> None:
        self.max_loaded, self.max_queue = max_loaded, max_queue
        self.policy = Policy(Limits(max_loaded, max_queue, keep_alive=10))
        self.now = 0
        self.keys: dict[int, str] = {}
        self.open: set[int] = set()
        self.grants: dict[int, set[int]] = {}
        self.slots: dict[int, int] = {}
        self.starting: set[int] = set()
        self.stopping: set[int] = set()
        self.needs: dict[int, Memory] = {}
        self.closed = False
        self.send(MemoryMeasured(Memory(free)))

    def send(self, event: Event, may_interrupt: bool = False) -> None:
        for effect in self.policy.handle(event, self.now):
            match effect:
                case StartRunner(runner, request):
                    assert request in self.open
                    assert not self.closed
                    self.starting.add(runner)
                    self.keys[runner] = self.keys[-request]
                    assert len(self.alive) <= self.max_loaded
                    assert len({self.keys[r] for r in self.alive}) == len(self.alive)
                    self.send(RunnerPlaced(runner, self.needs[request]))
                case StopRunner(runner):
                    assert runner not in self.stopping
                    assert may_interrupt or not self.grants.get(runner)
                    self.starting.discard(runner)
                    self.stopping.add(runner)
                case Grant(request, runner):
                    assert runner in self.slots
                    assert runner not in self.stopping
                    self.open.remove(request)
                    self.grants[runner].add(request)
                    assert len(self.grants[runner]) <= self.slots[runner]
                case Reject(request, _):
                    self.open.remove(request)

    @property
    def alive(self) -> set[int]:
        return self.starting | set(self.slots) | self.stopping

    @property
    def ready(self) -> list[int]:
        return sorted(set(self.slots) - self.stopping)

    def end(self, runner: int) -> None:
        self.starting.discard(runner)
        self.stopping.discard(runner)
        self.slots.pop(runner, None)
        self.grants.pop(runner, None)

    @rule(
        key=st.sampled_from("abcd"),
        configuration=st.integers(0, 1),
        needs=st.integers(0, 120),
        pinned=st.sampled_from([0, 0, 0, 200]),
        keep_alive=st.sampled_from([None, 0, 5, FOREVER]),
    )
    def arrive(
        self, key: str, configuration: int, needs: int, pinned: int, keep_alive: int | None
    ) -> None:
        number = len(self.needs) + 1
        self.needs[number] = Memory(needs)
        self.keys[-number] = key
        self.open.add(number)
        self.send(RequestArrived(number, key, configuration, Memory(needs), pinned, keep_alive))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.open)))
        self.open.remove(request)
        self.send(RequestLeft(request))

    @precondition(lambda self: any(self.grants.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        runner = data.draw(st.sampled_from(sorted(r for r in self.grants if self.grants[r])))
        request = data.draw(st.sampled_from(sorted(self.grants[runner])))
        self.grants[runner].remove(request)
        self.send(RequestLeft(request))

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), slots=st.integers(1, 3))
    def become_ready(self, data: st.DataObject, slots: int) -> None:
        runner = data.draw(st.sampled_from(sorted(self.starting)))
        self.starting.remove(runner)
        self.slots[runner] = slots
        self.grants[runner] = set()
        self.send(RunnerReady(runner, slots))

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        runner = data.draw(st.sampled_from(sorted(self.starting)))
        self.end(runner)
        self.send(RunnerFailed(runner, LoadError("no")))

    @precondition(lambda self: self.stopping or self.ready)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        runner = data.draw(st.sampled_from(sorted(self.stopping) + self.ready))
        self.end(runner)
        self.send(RunnerGone(runner))

    @rule(duration=st.integers(0, 8))
    def pass_time(self, duration: int) -> None:
        self.now += duration
        self.send(TimePassed())

    @rule(free=st.integers(0, 100))
    def measure(self, free: int) -> None:
        self.send(MemoryMeasured(Memory(free)))

    @rule(key=st.sampled_from("abcd"))
    def unload(self, key: str) -> None:
        self.send(UnloadAsked(key), may_interrupt=True)
        assert all(self.keys[runner] != key for runner in self.ready)

    @rule()
    @precondition(lambda self: len(self.needs) > 8)
    def shut_down(self) -> None:
        self.closed = True
        self.send(ShutdownAsked(), may_interrupt=True)
        assert not self.open
        assert not self.ready

    @invariant()
    def the_policy_and_the_account_agree(self) -> None:
        if not hasattr(self, "policy"):
            return
        assert self.policy.waiting == len(self.open) <= max(1, self.max_queue)
        assert set(self.policy.runners) == self.alive
        deadline = self.policy.deadline
        assert deadline is None or deadline > self.now

    def teardown(self) -> None:
        """If runners get ready and requests end, everybody is answered in the end."""
        if not hasattr(self, "policy"):
            return
        for _ in range(200):
            for runner in sorted(self.starting):
                if runner in self.starting:
                    self.starting.remove(runner)
                    self.slots[runner] = 1
                    self.grants[runner] = set()
                    self.send(RunnerReady(runner, 1))
            for requests in list(self.grants.values()):
                for request in sorted(requests):
                    requests.remove(request)
                    self.send(RequestLeft(request))
            for runner in sorted(self.stopping):
                self.end(runner)
                self.send(RunnerGone(runner))
        assert not self.open


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
