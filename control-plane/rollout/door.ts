// What other folders may use of rollouts.
export { numbersOf, rollouts } from "./rollouts.ts";
