"""The text that Cria learns from: the same for the same seed, nothing of the evaluation in it, and
letter by letter what the package's template makes of the same conversation."""

from __future__ import annotations

import json
from itertools import islice
from random import Random

import pytest

from llamaherd.cria import bundle
from llamaherd.events import Text, Thinking, ToolCalls
from llamaherd.messages import Message
from llamaherd.prompt.replies import reply_parser
from llamaherd.prompt.template import GoTemplate, Values
from training import prompts
from training.cases import TASKS, cases
from training.samples import HARDER_FROM, finishing_sample, sample, samples
from training.schedule import BLOCK, FINISHING_FROM, FIRST, SAMPLES, STEPS, rate
from training.world import code, records, smalltalk, stories, sums, toolbox, tools, topics, words
from training.world.conversation import Conversation, conversation
from training.world.finishing import VARIABLES, near_names, unusual_record
from training.world.harder import harder
from training.world.phrases import Phrases, careless, fill

TEMPLATE = GoTemplate(bundle.TEMPLATE.read_text())


def text_of(segments: list[prompts.Segment]) -> str:
    return "".join(segment.text for segment in segments)


def conversations(count: int) -> list[Conversation]:
    random = Random(0)
    return [
        conversation(random, "train", turns=1 + index % 4, with_tools=index % 2 == 0)
        for index in range(count)
    ]


def all_phrases() -> list[Phrases]:
    found = [topic.questions for topic in topics.TOPICS]
    found += [skill.requests for skill in toolbox.SKILLS.values()]
    for module in (smalltalk, stories, sums, records, tools):
        found += [each for each in vars(module).values() if isinstance(each, Phrases)]
    return found


class TestSamples:
    def test_the_same_seed_gives_the_same_text(self) -> None:
        first, again = (list(islice(samples(1), 50)) for _ in range(2))
        assert first == again

    def test_other_seeds_and_other_workers_give_another(self) -> None:
        first, seed, worker = (list(islice(samples(*which), 20)) for which in ((1,), (2,), (1, 1)))
        assert first != seed
        assert first != worker

    def test_a_stream_can_be_entered_anywhere(self) -> None:
        assert next(samples(1, first=7)) == list(islice(samples(1), 8))[7]

    def test_later_ones_are_harder(self) -> None:
        early = [sample(Random(seed)) for seed in range(200)]
        late = [sample(Random(seed), late=True) for seed in range(200)]
        assert 40 < sum(one != other for one, other in zip(early, late, strict=True)) < 160
        for place, is_late in ((HARDER_FROM - 1, False), (HARDER_FROM, True)):
            made = sample(Random(f"1/0/{place}"), late=is_late)
            assert next(samples(1, first=place)) == made

    def test_the_finishing_stage_has_its_own(self) -> None:
        last, first = islice(samples(1, first=FINISHING_FROM - 1), 2)
        assert last == sample(Random(f"1/0/{FINISHING_FROM - 1}"), late=True)
        assert first == finishing_sample(Random(f"1/0/{FINISHING_FROM}"))

    def test_the_finishing_stage_is_mostly_about_tools_but_has_all_kinds(self) -> None:
        made = [text_of(finishing_sample(Random(seed))) for seed in range(400)]
        assert 200 < sum("<tool_call>" in text for text in made) < 320
        assert 30 < sum('"name": ' in text and "<tool_call>" not in text for text in made) < 120
        assert 20 < sum("<|fim_middle|>" in text for text in made) < 80
        assert any(text.count(". ") > 6 for text in made)

    def test_every_sample_ends_with_what_the_model_writes(self) -> None:
        for made in (*islice(samples(3), 200), *islice(samples(3, first=FINISHING_FROM), 100)):
            assert made[-1].written
            assert made[-1].text.endswith((prompts.END, "<|endoftext|>"))


class TestHeldOut:
    def test_no_word_of_the_evaluation_is_in_training(self) -> None:
        for known in (words.NAMES, words.CITIES, words.THINGS):
            assert not {*known["train"]} & {*known["held_out"]}

    def test_no_phrasing_of_the_evaluation_is_in_training(self) -> None:
        assert len(all_phrases()) > 40
        for phrases in all_phrases():
            assert not {*phrases.train} & {*phrases.held_out}
            assert phrases.held_out

    def test_no_sample_has_a_name_or_city_that_is_held_out(self) -> None:
        held_out = {*words.NAMES["held_out"], *words.CITIES["held_out"]}
        for first in (0, FINISHING_FROM):
            text = " ".join(text_of(made) for made in islice(samples(5, first=first), 2000))
            assert not {word.strip(",.:;!?\"'{}()") for word in text.split()} & held_out

    def test_no_tool_or_variable_of_the_finishing_stage_is_held_out(self) -> None:
        known = {name for skill in toolbox.SKILLS.values() for name in skill.names["held_out"]}
        nouns = tools.REAL_NOUNS["held_out"]
        random = Random(5)
        offered = {
            str(tool.function["name"]) for _ in range(1000) for tool in near_names(random).tools
        }
        assert not offered & known
        assert not {noun for noun in nouns for name in offered if noun in name.lower().split("_")}
        assert not {*VARIABLES} & {*code.VARIABLES["held_out"], *code.LISTS["held_out"]}

    def test_held_out_sums_are_trained_the_other_way_round(self) -> None:
        pairs = [(a, b) for a in range(10) for b in range(10)]
        held_out = {pair for pair in pairs if sums.is_held_out(*pair)}
        assert 15 <= len(held_out) <= 20
        assert not {(b, a) for a, b in held_out} & held_out


class TestSchedule:
    def test_the_rate_rises_and_falls_to_nothing_twice(self) -> None:
        rates = [rate(step) for step in range(STEPS)]
        first, finishing = rates[:FIRST], rates[FIRST:]
        for stage, peak in ((first, 1.0), (finishing, 0.5)):
            top = stage.index(max(stage))
            assert max(stage) == pytest.approx(peak)
            assert stage[: top + 1] == sorted(stage[: top + 1])
            assert stage[top:] == sorted(stage[top:], reverse=True)
            assert 0 < stage[-1] < 0.002

    def test_stages_end_with_a_block_so_that_each_reads_its_own_samples(self) -> None:
        assert FIRST % BLOCK == STEPS % BLOCK == 0
        assert FIRST // BLOCK * SAMPLES == FINISHING_FROM > HARDER_FROM


class TestPrompts:
    def test_conversations_are_what_the_template_renders(self) -> None:
        following = Message(role="user", content="more")
        for each in conversations(120):
            messages = [*each.messages, following]
            rendered = TEMPLATE.render(Values(messages=messages, tools=each.tools))
            trained = text_of(list(prompts.chat(each)))
            assert rendered == f"{trained}<|user|>more{prompts.END}<|assistant|>"

    @pytest.mark.parametrize("think", [True, False])
    def test_replies_begin_where_the_template_ends(self, think: bool) -> None:
        found = 0
        for each in conversations(120):
            if bool(each.messages[-1].thinking) != think:
                continue
            prompt = TEMPLATE.render(
                Values(messages=each.messages[:-1], tools=each.tools, think=think)
            )
            *before, reply = prompts.chat(each)
            found += 1
            assert prompt == text_of(before)
            assert ("</think>" in reply.text) == think
        assert found > 20

    def test_gaps_are_what_the_template_renders(self) -> None:
        random = Random(0)
        for _ in range(50):
            gap = code.gap(random, "train")
            prompt, middle = prompts.fill(gap)
            rendered = TEMPLATE.render(Values(prompt=gap.prefix, suffix=gap.suffix))
            assert prompt.text == rendered
            assert middle.text == gap.middle + prompts.END

    @pytest.mark.parametrize("spaced", [True, False])
    def test_replies_are_read_as_what_they_were_made_of(self, spaced: bool) -> None:
        for each in conversations(60):
            wanted = each.messages[-1]
            *before, reply = prompts.chat(each, spaced=spaced)
            prompt = text_of(before)
            parser = reply_parser(TEMPLATE, prompt, tools=each.tools, think=bool(wanted.thinking))
            events = [*parser.feed(reply.text.removesuffix(prompts.END)), *parser.finish()]
            text = "".join(event.text for event in events if isinstance(event, Text))
            thinking = "".join(event.text for event in events if isinstance(event, Thinking))
            calls = [
                call for event in events if isinstance(event, ToolCalls) for call in event.calls
            ]
            assert (text, thinking) == (wanted.content, wanted.thinking)
            assert [call.function for call in calls] == [
                call.function for call in wanted.tool_calls
            ]


class TestWorld:
    def test_sums_are_right(self) -> None:
        random = Random(0)
        for _ in range(200):
            question, answer = sums.sums(random, "train", True).messages
            left, result = answer.thinking.rstrip(".").rsplit(". ", 1)[-1].split(" = ")
            a, sign, b = left.split()
            assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
            assert answer.content.rstrip(".").endswith(result), question.content

    def test_records_are_json_of_what_was_said(self) -> None:
        random = Random(0)
        for _ in range(200):
            question, answer = records.record(random, "held_out", False).messages
            for value in json.loads(answer.content).values():
                assert str(value) in question.content

    def test_calls_fit_their_tools(self) -> None:
        random = Random(0)
        for _ in range(200):
            offered = tools.kits(random, "train")
            names = [str(each.tool.function["name"]) for each in offered]
            assert len({*names}) == len(names)
            made = tools.use(random, "train", random.choice(offered), False)
            call = made.messages[1].tool_calls[0].function
            definition = next(
                each.tool.function for each in offered if each.tool.function["name"] == call.name
            )
            properties = definition["parameters"]["properties"]
            assert list(call.arguments) == sorted(properties)
            for name, value in call.arguments.items():
                assert isinstance(value, str) == (properties[name]["type"] == "string")
                assert value in properties[name].get("enum", [value])

    @pytest.mark.parametrize("names", [(), VARIABLES], ids=["usual", "finishing"])
    def test_python_with_its_gap_filled_compiles(self, names: tuple[str, ...]) -> None:
        random = Random(0)
        for _ in range(200):
            gap = code.gap(random, "train", names)
            compile(f"{gap.prefix}{gap.middle}{gap.suffix}", "gap", "exec")

    def test_harder_conversations_say_the_same(self) -> None:
        random = Random(0)
        for each in conversations(200):
            made = harder(random, each)
            names = {str(tool.function["name"]) for tool in made.tools}
            assert len(names) == len(each.tools)
            for message, before in zip(made.messages, each.messages, strict=True):
                assert message.content.endswith(before.content[-5:])
                for call, old in zip(message.tool_calls, before.tool_calls, strict=True):
                    assert call.function.name in names
                    assert call.function.arguments == old.function.arguments
                    if message.thinking:
                        assert f"I call {call.function.name}." in message.thinking

    def test_tools_of_the_finishing_stage_are_called_by_their_whole_name(self) -> None:
        random = Random(0)
        for _ in range(200):
            made = near_names(random)
            names = [str(tool.function["name"]) for tool in made.tools]
            assert len({*names}) == len(names)
            calls = [call.function for message in made.messages for call in message.tool_calls]
            assert calls
            for call in calls:
                (tool,) = (each for each in made.tools if each.function["name"] == call.name)
                assert list(call.arguments) == sorted(tool.function["parameters"]["properties"])
            for message in made.messages:
                if message.tool_calls and message.thinking:
                    assert f"I call {message.tool_calls[0].function.name}." in message.thinking

    def test_records_of_the_finishing_stage_say_what_was_said(self) -> None:
        random = Random(0)
        for _ in range(300):
            *_, question, answer = unusual_record(random).messages
            for key, value in json.loads(answer.content).items():
                assert str(value) in question.content
                if answer.thinking:
                    assert f"The {key} is {value}." in answer.thinking

    def test_carelessness_spares_what_is_to_be_copied(self) -> None:
        random = Random(0)
        for _ in range(100):
            told = fill(careless(random, "My name is {name}."), name="McAdams")
            assert "McAdams" in told

    def test_the_evaluation_asks_the_same_every_time(self) -> None:
        for task in TASKS:
            first, again = ([each.request for each in cases(task, 3)] for _ in range(2))
            assert first == again
