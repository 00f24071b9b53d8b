"""The kinds of tools that have a sense in the real world."""

from __future__ import annotations

from typing import Final

from training.world.phrases import varied
from training.world.skills import (
    CITY,
    CODES,
    FIRST_NUMBER,
    LANGUAGES,
    SECOND_NUMBER,
    Skill,
    Slot,
    amount_of,
    arithmetic,
    clock_time,
    one_of,
    person_name,
    some_minutes,
    some_number,
    some_query,
    some_text,
    some_word,
    stock_symbol,
    success,
    time_of_day,
    weather_report,
    words_as,
)
from training.world.words import Split


def both(train: str, held_out: str) -> dict[Split, tuple[str, ...]]:
    return {"train": tuple(train.split()), "held_out": tuple(held_out.split())}


SKILLS: Final[dict[str, Skill]] = {
    "weather": Skill(
        both(
            "get_weather get_current_weather weather current_weather fetch_weather getWeather "
            "weather_lookup check_weather get_forecast",
            "weather_report lookup_weather weather_in_city get_weather",
        ),
        (
            "Get the weather for a city",
            "Get the current weather",
            "Weather of a place",
            "The weather",
            "Returns the weather in a city",
            "",
        ),
        {"city": CITY},
        varied(
            (
                "What is the weather in {city}?",
                "How is the weather in {city}?",
                "Weather in {city}?",
                "What's the weather like in {city}?",
                "Is it raining in {city}?",
                "weather {city}",
                "Tell me the weather in {city}.",
                "What is the weather like in {city} today?",
                "What is the weather today in {city}?",
                "What's the weather in {city}?",
                "Will it rain in {city}?",
                "Is it sunny in {city}?",
                "How warm is it in {city}?",
                "What's the weather in {city} right now?",
                "Check the weather in {city}.",
            ),
            (
                "How's the weather in {city} today?",
                "Could you tell me the weather in {city}?",
                "Please look up the weather in {city}.",
                "Is it cold in {city}?",
                "I want to know the weather in {city}.",
            ),
            subjects=("the weather in {city}", "the weather for {city}", "the forecast for {city}"),
        ),
        weather_report,
        ("The weather in {city}: {result}.",),
        "The user wants to know the weather in {city}.",
    ),
    "weather_unit": Skill(
        both(
            "get_weather get_current_weather weather temperature get_temperature",
            "weather_report temperature_of",
        ),
        ("Get the weather for a city", "Get the current weather", "The temperature in a city", ""),
        {
            "city": CITY,
            "unit": Slot(
                ("unit", "format", "scale"),
                "string",
                one_of(("celsius", "fahrenheit")),
                ("celsius", "fahrenheit"),
            ),
        },
        varied(
            (
                "What is the weather in {city} in {unit}?",
                "How warm is it in {city} in {unit}?",
                "Temperature in {city} in {unit}?",
                "Tell me the temperature in {city} in {unit}.",
                "What's the temperature in {city}, in {unit}?",
            ),
            (
                "How many degrees {unit} are there in {city}?",
                "Is it warm in {city}? In {unit} please.",
            ),
            subjects=(
                "the weather in {city} in {unit}",
                "the temperature in {city} in {unit}",
                "degrees {unit} in {city}",
            ),
        ),
        weather_report,
        ("The weather in {city}: {result}.",),
        "The user wants to know the weather in {city} in {unit}.",
    ),
    "time": Skill(
        both(
            "get_time get_current_time current_time time_in clock getTime local_time world_clock",
            "time_of_city lookup_time get_local_time",
        ),
        ("Get the time in a city", "Current time of a place", "The local time", ""),
        {"city": CITY},
        varied(
            (
                "What time is it in {city}?",
                "What is the time in {city}?",
                "Time in {city}?",
                "Tell me the time in {city}.",
                "How late is it in {city}?",
                "time {city}",
                "What's the current time in {city}?",
                "What is the local time in {city}?",
            ),
            (
                "Could you tell me the time in {city}?",
                "Do you know what time it is in {city}?",
                "I want to know the time in {city}.",
            ),
            subjects=("the time in {city}", "the clock in {city}"),
        ),
        time_of_day,
        ("The time in {city}: {result}.",),
        "The user wants to know the time in {city}.",
    ),
    "population": Skill(
        both(
            "get_population population population_of fetch_population city_population",
            "lookup_population count_people",
        ),
        ("Get the population of a city", "How many people live in a place", ""),
        {"city": CITY},
        varied(
            (
                "How many people live in {city}?",
                "What is the population of {city}?",
                "Population of {city}?",
                "How big is {city}?",
                "Tell me the population of {city}.",
            ),
            ("How many inhabitants does {city} have?", "I want to know the population of {city}."),
            subjects=(
                "the population of {city}",
                "how many people live in {city}",
                "the number of people in {city}",
            ),
        ),
        amount_of("population", 6),
        ("The population of {city}: {result}.",),
        "The user wants to know the population of {city}.",
    ),
    "add": Skill(
        both(
            "add add_numbers add_two_numbers sum plus calculate_sum addNumbers",
            "add_them sum_of_numbers",
        ),
        ("Add two numbers", "The sum of two numbers", "Adds a and b", ""),
        {"a": FIRST_NUMBER, "b": SECOND_NUMBER},
        varied(
            (
                "What is {a} + {b}?",
                "What is {a} plus {b}?",
                "Add {a} and {b}.",
                "{a} + {b}",
                "How much is {a} plus {b}?",
                "Calculate {a} + {b}.",
                "Please add {a} and {b}.",
                "What is the sum of {a} and {b}?",
            ),
            (
                "Compute {a} + {b}.",
                "What do you get when you add {a} and {b}?",
                "Could you add {a} and {b}?",
            ),
            subjects=("{a} + {b}", "{a} plus {b}", "the sum of {a} and {b}"),
            commands=("add {a} and {b}", "add {a} to {b}"),
        ),
        arithmetic(lambda a, b: a + b),
        ("The result: {result}.",),
        "The user wants to add {a} and {b}.",
    ),
    "multiply": Skill(
        both(
            "multiply multiply_numbers times product mul multiply_two_numbers",
            "multiply_them product_of",
        ),
        ("Multiply two numbers", "The product of two numbers", ""),
        {"a": FIRST_NUMBER, "b": SECOND_NUMBER},
        varied(
            (
                "What is {a} times {b}?",
                "Multiply {a} by {b}.",
                "{a} * {b}",
                "What is {a} x {b}?",
                "How much is {a} times {b}?",
                "Multiply {a} and {b}.",
                "Calculate {a} * {b}.",
            ),
            (
                "Compute {a} times {b}.",
                "What is the product of {a} and {b}?",
                "Could you multiply {a} by {b}?",
            ),
            subjects=("{a} times {b}", "{a} * {b}"),
            commands=("multiply {a} by {b}", "multiply {a} with {b}"),
        ),
        arithmetic(lambda a, b: a * b),
        ("The result: {result}.",),
        "The user wants to multiply {a} and {b}.",
    ),
    "convert": Skill(
        both(
            "convert convert_currency exchange currency_converter exchange_money",
            "convert_money currency_exchange",
        ),
        ("Convert money", "Convert an amount to another currency", ""),
        {
            "amount": Slot(("amount", "value", "sum"), "number", some_number),
            "from": Slot(("from", "source", "from_currency"), "string", one_of(CODES)),
            "to": Slot(("to", "target", "to_currency"), "string", one_of(CODES)),
        },
        varied(
            (
                "Convert {amount} {from} to {to}.",
                "How much is {amount} {from} in {to}?",
                "What are {amount} {from} in {to}?",
                "Change {amount} {from} into {to}.",
                "{amount} {from} in {to}?",
            ),
            (
                "Please convert {amount} {from} into {to}.",
                "How many {to} do I get for {amount} {from}?",
            ),
            subjects=("{amount} {from} in {to}", "how many {to} are {amount} {from}"),
            commands=("convert {amount} {from} to {to}", "change {amount} {from} into {to}"),
        ),
        amount_of("amount", 4),
        ("{amount} {from} in {to}: {result}.",),
        "The user wants to convert {amount} {from} to {to}.",
    ),
    "message": Skill(
        both(
            "send_message message send_text sendMessage send_mail notify send",
            "text_person deliver_message",
        ),
        ("Send a message to a person", "Send a text", "Writes to someone", ""),
        {
            "name": Slot(("to", "recipient", "person", "name"), "string", person_name),
            "text": Slot(("text", "message", "body", "content"), "string", some_text),
        },
        varied(
            (
                'Send {name} the message "{text}".',
                "Tell {name}: {text}",
                'Write "{text}" to {name}.',
                "Send a message to {name}: {text}",
                "Message {name}: {text}",
                "Text {name}: {text}",
                'Send "{text}" to {name}.',
            ),
            ("Please write {name}: {text}", "Could you send {name} this: {text}"),
            commands=(
                'send {name} "{text}"',
                "text {name}: {text}",
                "tell {name} this: {text}",
                "write {name} a message: {text}",
                "let {name} know: {text}",
            ),
        ),
        success,
        ("I sent the message to {name}.",),
        "The user wants to send a message to {name}.",
    ),
    "timer": Skill(
        both("set_timer timer start_timer setTimer countdown", "new_timer begin_timer"),
        ("Set a timer", "Start a timer for some minutes", ""),
        {
            "minutes": Slot(
                ("minutes", "duration", "time", "duration_minutes"), "integer", some_minutes
            )
        },
        varied(
            (
                "Set a timer for {minutes} minutes.",
                "Start a timer of {minutes} minutes.",
                "Timer {minutes} minutes",
                "Wake me in {minutes} minutes.",
                "Remind me in {minutes} minutes.",
                "Set the timer to {minutes} minutes.",
            ),
            ("I need a timer for {minutes} minutes.", "Please start a {minutes} minute timer."),
            commands=(
                "set a timer for {minutes} minutes",
                "start a timer of {minutes} minutes",
                "start a {minutes} minutes timer",
                "count down {minutes} minutes",
            ),
        ),
        success,
        ("I set a timer for {minutes} minutes.",),
        "The user wants a timer for {minutes} minutes.",
    ),
    "alarm": Skill(
        both("set_alarm alarm wake_up setAlarm create_alarm", "new_alarm alarm_at"),
        ("Set an alarm", "Wakes the user at a time", ""),
        {"clock": Slot(("time", "at", "clock", "when"), "string", clock_time)},
        varied(
            (
                "Set an alarm for {clock}.",
                "Wake me at {clock}.",
                "Alarm at {clock}",
                "Wake me up at {clock}.",
                "Please set an alarm at {clock}.",
            ),
            ("I need an alarm for {clock}.", "Could you wake me at {clock}?"),
            commands=("set an alarm for {clock}", "wake me at {clock}", "ring at {clock}"),
        ),
        success,
        ("I set an alarm for {clock}.",),
        "The user wants an alarm at {clock}.",
    ),
    "search": Skill(
        both("search web_search search_web find lookup google query", "search_for internet_search"),
        ("Search the web", "Finds pages", "Search for something", ""),
        {"query": Slot(("query", "q", "text", "keywords", "term"), "string", some_query)},
        varied(
            (
                "Search for {query}.",
                "Find {query}.",
                "Search the web for {query}.",
                "Google {query}.",
                "Look for {query}.",
                "search {query}",
                "Can you search for {query}?",
            ),
            ("Please search for {query}.", "Could you find {query}?"),
            commands=("search for {query}", "look for {query}", "search {query}", "find {query}"),
        ),
        words_as("result"),
        ("I found: {result}.",),
        "The user wants to search for {query}.",
    ),
    "translate": Skill(
        both("translate translate_text translation translator", "translate_words do_translation"),
        ("Translate a text", "Translate into another language", ""),
        {
            "text": Slot(("text", "words", "phrase", "input"), "string", some_text),
            "language": Slot(("language", "target", "lang", "to"), "string", one_of(LANGUAGES)),
        },
        varied(
            (
                'Translate "{text}" into {language}.',
                "Translate {text} to {language}.",
                'How do you say "{text}" in {language}?',
                'What is "{text}" in {language}?',
                'Say "{text}" in {language}.',
            ),
            ('Please translate "{text}" to {language}.', 'Put "{text}" into {language}.'),
            commands=(
                'translate "{text}" into {language}',
                'say "{text}" in {language}',
                'write "{text}" in {language}',
            ),
        ),
        words_as("translation"),
        ("In {language}: {result}.",),
        "The user wants a translation into {language}.",
    ),
    "stock": Skill(
        both(
            "get_stock_price stock_price stock quote get_price share_price",
            "lookup_stock price_of_stock",
        ),
        ("Get the price of a stock", "Stock price by symbol", ""),
        {"symbol": Slot(("symbol", "ticker", "stock", "code"), "string", stock_symbol)},
        varied(
            (
                "What is the stock price of {symbol}?",
                "How much is {symbol}?",
                "Price of {symbol}?",
                "What does {symbol} cost?",
                "Stock price of {symbol}",
                "Check the price of {symbol}.",
            ),
            ("How is {symbol} doing?", "Tell me the price of {symbol}."),
            subjects=("the price of {symbol}", "the stock price of {symbol}", "how {symbol} does"),
        ),
        amount_of("price", 3),
        ("The price of {symbol}: {result}.",),
        "The user wants to know the price of {symbol}.",
    ),
    "define": Skill(
        both("define dictionary define_word meaning get_definition", "definition_of explain_word"),
        ("Explain a word", "Look a word up in the dictionary", ""),
        {"word": Slot(("word", "term", "text"), "string", some_word)},
        varied(
            (
                "What does {word} mean?",
                "Define {word}.",
                "What is the meaning of {word}?",
                "What is a {word}?",
                "Explain the word {word}.",
            ),
            ("Look up the word {word}.", "Tell me what {word} means."),
            subjects=("the meaning of {word}", "what {word} means"),
            commands=("define {word}", "explain the word {word}"),
        ),
        words_as("definition"),
        ("The meaning of {word}: {result}.",),
        "The user wants to know what {word} means.",
    ),
}
