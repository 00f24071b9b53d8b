// The npm package "ollama" against the real server.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Ollama } from 'ollama'

const client = new Ollama({ host: process.env.SERVER })
const options = { temperature: 0, num_predict: 12, seed: 1 }
const messages = [{ role: 'user', content: 'Once upon a time' }]
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'The weather in a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
    },
  },
]

async function collect(stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return parts
}

test('generate says the same at once and in a stream', async () => {
  const request = { model: 'tiny', prompt: 'Once upon a time', options }
  const whole = await client.generate(request)
  assert.equal(whole.done_reason, 'length')
  assert.equal(whole.eval_count, 12)
  const parts = await collect(await client.generate({ ...request, stream: true }))
  assert.equal(parts.map((part) => part.response).join(''), whole.response)
  assert.deepEqual(parts.at(-1).context, whole.context)
})

test('chat says the same at once and in a stream', async () => {
  const request = { model: 'tiny', messages, options }
  const whole = await client.chat(request)
  assert.equal(whole.message.role, 'assistant')
  const parts = await collect(await client.chat({ ...request, stream: true }))
  assert.equal(parts.map((part) => part.message.content).join(''), whole.message.content)
})

test('a stream can be aborted', async () => {
  const request = { model: 'tiny', messages, options: { num_predict: -1 }, stream: true }
  const stream = await client.chat(request)
  await assert.rejects(
    async () => {
      for await (const part of stream) {
        assert.ok(part.message)
        stream.abort()
      }
    },
    { name: 'AbortError' },
  )
})

test('log-probabilities stand beside the text', async () => {
  const request = { model: 'tiny', messages, options, logprobs: true, top_logprobs: 2 }
  const whole = await client.chat(request)
  assert.equal(whole.logprobs.map((token) => token.token).join(''), whole.message.content)
  for (const token of whole.logprobs) assert.equal(token.top_logprobs.length, 2)
})

test('a schema is kept', async () => {
  const format = {
    type: 'object',
    properties: { ok: { type: 'boolean' } },
    required: ['ok'],
    additionalProperties: false,
  }
  const request = { model: 'tiny', messages, format, options: { num_predict: 50 } }
  const { message } = await client.chat(request)
  assert.equal(typeof JSON.parse(message.content).ok, 'boolean')
})

test('tools are called', async () => {
  const { message } = await client.chat({ model: 'caller', messages, tools })
  assert.deepEqual(message.tool_calls[0].function, {
    name: 'get_weather',
    arguments: { city: 'Zürich', days: 2 },
  })
})

test('thinking is apart', async () => {
  const { message } = await client.chat({ model: 'thinker', messages, think: true })
  assert.equal(message.thinking.trim(), 'Hm.')
  assert.equal(message.content, 'Forty-two.')
})

test('models are listed, shown and seen running', async () => {
  const { models } = await client.list()
  assert.deepEqual(models.map((model) => model.name).sort(), [
    'caller:latest',
    'thinker:latest',
    'tiny:latest',
  ])
  const shown = await client.show({ model: 'caller' })
  assert.ok(shown.capabilities.includes('tools'))
  const running = await client.ps()
  assert.ok(running.models.length > 0)
})

test('an unknown model is an error with its status', async () => {
  await assert.rejects(client.chat({ model: 'nosuch', messages }), {
    name: 'ResponseError',
    status_code: 404,
  })
})
