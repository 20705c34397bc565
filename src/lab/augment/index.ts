/** Pictures changed at random for training: RandAugment, crops and flips, Mixup; repeatable from a seed. */
export { type Augmentation, type Augmenter, augmenter, type Crop, cropAndFlip } from './augment.ts';
export { type PictureBatch, pictureBatch } from './batch.ts';
export { betaSample, type Mixing, mixing, mixRows, oneHot } from './mixup.ts';
export { applyOperation, type OperationName, operationNames, type Pixels } from './operations.ts';
