// undici in the run of "pauses": the same calls, users and kind of pauses. One JSON object a call.
import { readFileSync } from 'node:fs';
import { Agent, request } from 'undici';

const [server, caFile, version, calls, users, longest, hang] = process.argv.slice(2);
const ca = readFileSync(caFile, 'utf8');
const body = stream => JSON.stringify({ model: 'mock', stream, messages: [{ role: 'user', content: 'x'.repeat(20) }] });
const sleep = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1000));

async function user() {
  const dispatcher = new Agent({ connect: { ca }, allowH2: version === '2' });
  for (let i = 0; i < Math.floor(calls / users); i++) {
    await sleep(Math.random() * longest);
    const start = performance.now();
    const signal = AbortSignal.timeout(hang * 1000);
    let [ok, error] = [true, ''];
    try {
      const response = await request(new URL('/v1/chat/completions', server), { dispatcher, signal, method: 'POST', headers: { 'content-type': 'application/json' }, body: body(i % 2 === 1) });
      if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
      for await (const _ of response.body);
    } catch (failure) {
      [ok, error] = [false, signal.aborted ? '' : `${failure.name}: ${failure.message}`];
    }
    console.log(JSON.stringify({ ok, late: !ok && signal.aborted, ms: performance.now() - start, error }));
  }
  await dispatcher.destroy();
}

await Promise.all(Array.from({ length: users }, user));
