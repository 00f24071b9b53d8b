// The npm package "openai" against the real server.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import OpenAI from 'openai'

const client = new OpenAI({
  baseURL: `${process.env.SERVER}/v1/`,
  apiKey: 'ollama',
  maxRetries: 0,
})
const messages = [{ role: 'user', content: 'Once upon a time' }]
const chat = { model: 'tiny', messages, max_tokens: 12, temperature: 0 }
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
    },
  },
]

async function collect(stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return parts
}

test('a chat says the same at once and in a stream', async () => {
  const whole = await client.chat.completions.create(chat)
  assert.equal(whole.choices[0].finish_reason, 'length')
  assert.equal(whole.usage.completion_tokens, 12)
  const parts = await collect(
    await client.chat.completions.create({
      ...chat,
      stream: true,
      stream_options: { include_usage: true },
    }),
  )
  const usage = parts.pop()
  assert.deepEqual(usage.choices, [])
  assert.equal(usage.usage.completion_tokens, 12)
  const text = parts.map((part) => part.choices[0].delta.content).join('')
  assert.equal(text, whole.choices[0].message.content)
})

test('a stream can be left', async () => {
  const stream = await client.chat.completions.create({
    ...chat,
    max_tokens: undefined,
    stream: true,
  })
  for await (const part of stream) {
    assert.ok(part.choices)
    break
  }
  assert.ok(stream.controller.signal.aborted)
})

test('several choices', async () => {
  const reply = await client.chat.completions.create({ ...chat, temperature: 1, n: 3, seed: 1 })
  assert.deepEqual(
    reply.choices.map((choice) => choice.index),
    [0, 1, 2],
  )
})

test('log-probabilities stand beside the text', async () => {
  const reply = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 })
  const [choice] = reply.choices
  assert.equal(
    choice.logprobs.content.map((token) => token.token).join(''),
    choice.message.content,
  )
})

test('the client runs the tools that are called', async () => {
  const asked = []
  const runner = client.chat.completions.runTools({
    model: 'caller',
    messages,
    max_completion_tokens: 200,
    tools: [
      {
        type: 'function',
        function: {
          ...tools[0].function,
          parse: JSON.parse,
          function: (given) => {
            asked.push(given)
            return 'rain'
          },
        },
      },
    ],
  }, { maxChatCompletions: 1 })
  await runner.done()
  assert.deepEqual(asked, [{ city: 'Zürich', days: 2 }])
})

test('tool calls come in a stream', async () => {
  const stream = client.chat.completions.stream({ model: 'caller', messages, tools })
  const reply = await stream.finalChatCompletion()
  const [call] = reply.choices[0].message.tool_calls
  assert.equal(reply.choices[0].finish_reason, 'tool_calls')
  assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Zürich', days: 2 })
})

test('a schema is kept', async () => {
  const reply = await client.chat.completions.parse({
    model: 'tiny',
    messages,
    max_tokens: 50,
    response_format: {
      type: 'json_schema',
      json_schema: {
        name: 'answer',
        strict: true,
        schema: {
          type: 'object',
          properties: { ok: { type: 'boolean' } },
          required: ['ok'],
          additionalProperties: false,
        },
      },
    },
  })
  assert.equal(typeof JSON.parse(reply.choices[0].message.content).ok, 'boolean')
})

test('completions, the best of several', async () => {
  const reply = await client.completions.create({
    model: 'tiny',
    prompt: ['Once upon', 'There was'],
    max_tokens: 8,
    best_of: 2,
    logprobs: 1,
  })
  assert.equal(reply.choices.length, 2)
  assert.equal(reply.choices[0].logprobs.tokens.length, 8)
})

test('models are listed', async () => {
  const ids = (await collect(client.models.list())).map((model) => model.id)
  assert.ok(ids.includes('tiny:latest'))
})

test('errors have their class, field and code', async () => {
  await assert.rejects(
    client.chat.completions.create({ ...chat, model: 'nosuch' }),
    OpenAI.NotFoundError,
  )
  await assert.rejects(client.chat.completions.create({ ...chat, n: 0 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError)
    assert.deepEqual([error.param, error.code], ['n', 'integer_below_min_value'])
    return true
  })
})
