/** `sotto/node`: what comes from Node: folders, pictures, downloads, sockets, ONNX Runtime in a worker. */

export type { Address, SocketOptions } from '../node/address.ts';
export { type CertificateOptions, type CertificateSet, makeCertificates, writeCertificates } from '../node/certificates.ts';
export { systemAlarm, systemClock } from '../node/clock.ts';
export { folderFiles } from '../node/files.ts';
export { type Pulled, type PullOptions, type PullProgress, pull } from '../node/hub.ts';
export * from '../node/index.ts';
export { createParallelKernels, type ParallelOptions } from '../node/kernels.ts';
export { aesPrg, fixedKeyAes, hkdf, systemEntropy } from '../node/randomness.ts';
export { connect, type Listener, listen } from '../node/sockets.ts';
export { loadCredentials, type TlsCredentials, type TlsFiles, type TlsRole } from '../node/tls.ts';
export { loadImage } from '../pictures/index.ts';
