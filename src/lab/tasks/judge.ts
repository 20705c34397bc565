import { SottoError } from '../../errors/index.ts';
import { isObject } from '../../models/json.ts';

/** A model that rates answers, behind any endpoint that speaks the OpenAI chat protocol. */
export interface JudgeOptions {
  /** Such as http://127.0.0.1:8000/v1; `/chat/completions` is appended. */
  readonly url: string;
  readonly model: string;
  readonly key?: string | undefined;
  readonly timeoutMilliseconds?: number;
  /** Attempts at a request that the server refuses as too much or fails at. */
  readonly attempts?: number;
  readonly pauseMilliseconds?: number;
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

const answerLimitBytes = 2 ** 20;

/** Asks the judge and gives its text. Throws a `peer` error that names the endpoint. */
export async function askJudge(options: JudgeOptions, messages: readonly ChatMessage[]): Promise<string> {
  const { attempts = 4, pauseMilliseconds = 1000 } = options;
  const endpoint = endpointOf(options.url);
  for (let attempt = 1; ; attempt++) {
    const answer = await post(endpoint, options, messages);
    if (typeof answer === 'string') return answer;
    if (!answer.worthRetrying || attempt >= attempts) throw failure(endpoint, answer.reason);
    await new Promise((resolve) => setTimeout(resolve, pauseMilliseconds * 2 ** (attempt - 1)));
  }
}

interface Refusal {
  readonly reason: string;
  readonly worthRetrying: boolean;
}

async function post(endpoint: string, options: JudgeOptions, messages: readonly ChatMessage[]): Promise<string | Refusal> {
  const { model, key, timeoutMilliseconds = 120_000 } = options;
  try {
    const response = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
      body: JSON.stringify({ model, messages, temperature: 0, max_tokens: 2048 }),
      signal: AbortSignal.timeout(timeoutMilliseconds),
    });
    if (!response.ok) {
      await response.body?.cancel();
      const worthRetrying = response.status === 429 || response.status >= 500;
      return { reason: `the judge answered with status ${response.status}`, worthRetrying };
    }
    return contentOf(await limitedText(response), endpoint);
  } catch (error) {
    if (error instanceof SottoError) throw error;
    const { name, message, cause } = error as Error;
    if (name === 'TimeoutError') return { reason: `the judge was silent for ${timeoutMilliseconds} ms`, worthRetrying: false };
    return { reason: `the judge cannot be reached: ${(cause as Error | undefined)?.message ?? message}`, worthRetrying: true };
  }
}

async function limitedText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let [text, bytes] = ['', 0];
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > answerLimitBytes) throw failure(response.url, `the judge answered with more than ${answerLimitBytes} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text;
}

function contentOf(text: string, endpoint: string): string {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw failure(endpoint, 'the judge answered with something that is not JSON');
  }
  const choice: unknown = isObject(answer) && Array.isArray(answer.choices) ? answer.choices[0] : undefined;
  const message = isObject(choice) ? choice.message : undefined;
  if (isObject(message) && typeof message.content === 'string') return message.content;
  throw failure(endpoint, 'the answer of the judge lacks choices[0].message.content');
}

function endpointOf(url: string): string {
  if (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)) return `${url.replace(/\/+$/, '')}/chat/completions`;
  throw new SottoError('usage', `${JSON.stringify(url)} is not the address of a judge`, {
    place: { field: '--judge' },
    remedy: 'give the base address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1',
  });
}

const failure = (endpoint: string, reason: string): SottoError =>
  new SottoError('peer', reason, {
    place: { party: 'judge', file: endpoint },
    remedy: 'check the address, the model name and the key of the judge',
  });
