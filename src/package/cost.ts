/** `sotto/cost`: what a private run will send, from the program alone, and how long a network takes for it. */
export {
  type Costs,
  type Forecast,
  forecast,
  type MachineProfile,
  type OnlineBytes,
  type OnlineSeconds,
  onlineSeconds,
  parseMachine,
  perLayer,
  type RunSeconds,
  runSeconds,
  type ScopeCosts,
  type SentBytes,
} from '../backends/cost/index.ts';
export type { Amounts, OperationSeconds, RingSeconds, Table, WorkUnit } from '../backends/cost/machine.ts';
export { type Network, networks, parseNetwork, shaped } from '../net/shaped.ts';
export {
  type ForecastOptions,
  forecastModel,
  forecastShape,
  type NetworkSeconds,
  networkSeconds,
  type RunForecast,
  type RunLength,
  type Timing,
} from './forecast.ts';
export { measureMachine } from './machine.ts';
