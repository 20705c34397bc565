// A published model becomes a polynomial one and writes under the whole protocol: client, server and dealer in this process.
import { loadModel } from 'sotto';

const newTokens = Number(process.argv[2] ?? 16);
// A folder in the Hugging Face layout; this one comes with the package.
const teacher = await loadModel(new URL('../../artefacts/stories-teacher', import.meta.url).pathname);
const student = await teacher.convert({ plan: 'full-p8' });
const story = await student.generatePrivately('Once upon a time', { newTokens });
console.log(story.text);
// As counted on the channels, and the same numbers from the program alone.
console.log(story.online);
console.log(story.forecast.online);
