//! Columns of the type `AggregateFunction`, filled from plain values.
//!
//! A block carries the value that is to be aggregated, and the INSERT makes a state of each value alone, by the function that the
//! type of the column names. Source: <https://clickhouse.com/docs/sql-reference/data-types/aggregatefunction>.

use crate::clickhouse::type_name::TypeName;

/// `AggregateFunction(quantiles(0.5, 0.9), Float32)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// With the suffix by which a function gives its state: `quantilesState(0.5, 0.9)`.
    state_function: String,
    /// The types of the function's arguments.
    arguments: Vec<String>,
}

impl Aggregate {
    /// `None`: it is another type.
    pub fn parse(text: &str) -> Option<Aggregate> {
        let TypeName { name: "AggregateFunction", arguments } = TypeName::parse(text)? else { return None };
        let mut arguments = arguments.into_iter().peekable();
        // ClickHouse writes the version of a state's format before the function: `AggregateFunction(1, sumMap, …)`.
        arguments.next_if(|first| first.bytes().all(|byte| byte.is_ascii_digit()));
        let function = arguments.next()?;
        let (name, parameters) = function.split_at(function.find('(').unwrap_or(function.len()));
        Some(Aggregate {
            state_function: format!("{}State{parameters}", name.trim_end()),
            arguments: arguments.map(String::from).collect(),
        })
    }

    /// The type of the values that fill it: that of the argument, or a Tuple of several. `count` has none, and takes whether the
    /// row counts.
    pub fn value_type(&self) -> String {
        match self.arguments.as_slice() {
            [] => "Nullable(Bool)".into(),
            [only] => only.clone(),
            several => format!("Tuple({})", several.join(", ")),
        }
    }

    /// The expression for the state of one value, itself an expression of [`Aggregate::value_type`].
    pub fn state(&self, value: &str) -> String {
        let function = quoted(&self.state_function);
        let cast = |value: &str, argument: &String| format!("CAST({value}, {})", quoted(argument));
        match self.arguments.as_slice() {
            [] => format!("arrayReduce({function}, if(ifNull({value}, true), [1], []))"),
            [only] => format!("initializeAggregation({function}, {})", cast(value, only)),
            several => {
                let elements = several.iter().enumerate();
                let elements = elements
                    .map(|(at, argument)| cast(&format!("tupleElement({value}, {})", at + 1), argument));
                format!("initializeAggregation({function}, {})", elements.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The type of such a state, where that of the column is `type_name`: functions leave out `LowCardinality`, and the branches of
    /// an `if` must be of one type.
    pub fn state_type(type_name: &str) -> String {
        const WRAPPER: &str = "LowCardinality(";
        let Some((before, behind)) = type_name.split_once(WRAPPER) else { return type_name.into() };
        let mut depth = 0;
        let end = behind.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth < 0
        });
        let (inner, rest) = behind.split_at(end.unwrap_or(behind.len()));
        Aggregate::state_type(&format!("{before}{inner}{}", rest.get(1..).unwrap_or_default()))
    }

    /// The expression for the state of no value.
    pub fn empty_state(&self) -> String {
        let function = quoted(&self.state_function);
        let lists = self
            .arguments
            .iter()
            .map(|argument| format!("CAST([], {})", quoted(&format!("Array({argument})"))));
        match self.arguments.is_empty() {
            true => format!("arrayReduce({function}, emptyArrayUInt8())"),
            false => format!("arrayReduce({function}, {})", lists.collect::<Vec<_>>().join(", ")),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", crate::clickhouse::schema::escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_and_its_arguments_are_those_of_the_type() {
        let of = |text: &str| Aggregate::parse(text).unwrap();
        let quantiles = of("AggregateFunction(quantiles(0.5, 0.9), Float32)");
        assert_eq!(quantiles.value_type(), "Float32");
        assert_eq!(
            quantiles.state("`v`"),
            "initializeAggregation('quantilesState(0.5, 0.9)', CAST(`v`, 'Float32'))"
        );
        let latest = of("AggregateFunction(argMax, Float64, DateTime('UTC'))");
        assert_eq!(latest.value_type(), "Tuple(Float64, DateTime('UTC'))");
        assert_eq!(
            latest.state("`v`"),
            "initializeAggregation('argMaxState', CAST(tupleElement(`v`, 1), 'Float64'), \
             CAST(tupleElement(`v`, 2), 'DateTime(\\'UTC\\')'))"
        );
        assert_eq!(
            latest.empty_state(),
            "arrayReduce('argMaxState', CAST([], 'Array(Float64)'), CAST([], 'Array(DateTime(\\'UTC\\'))'))"
        );
        let count = of("AggregateFunction(count)");
        assert_eq!(count.value_type(), "Nullable(Bool)");
        assert_eq!(count.state("`v`"), "arrayReduce('countState', if(ifNull(`v`, true), [1], []))");
        assert_eq!(of("AggregateFunction(1, sumMap, Array(UInt8), Array(UInt64))").arguments.len(), 2);
        assert_eq!(
            Aggregate::state_type(
                "AggregateFunction(f(2), LowCardinality(Nullable(FixedString(2))), Array(LowCardinality(String)))"
            ),
            "AggregateFunction(f(2), Nullable(FixedString(2)), Array(String))"
        );
        assert_eq!(Aggregate::parse("SimpleAggregateFunction(sum, UInt64)"), None);
    }
}
