// node classify.mjs MODEL PICTURE: a published vision transformer is fitted on the picture (on more, in earnest) and names it privately.
import { loadModel } from 'sotto';

const [folder, picture] = process.argv.slice(2);
if (picture === undefined) throw new Error('usage: node classify.mjs MODEL PICTURE');
const published = await loadModel(folder);
const student = await published.convert({ plan: 'full-p4', pictures: [picture] });
const [clear, secret] = [await student.classify(picture), await student.classifyPrivately(picture)];
console.log(`${secret.label}, in the clear ${clear.label}`);
console.log(secret.online);
