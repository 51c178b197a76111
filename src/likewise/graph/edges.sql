-- The edges of a co-engagement graph, in SQL that DuckDB 1.0+ and Spark 4+ run as it is. The definition is that of
-- likewise.graph.co_engagement; the edges are the same, to the last bit of a weight (pmi: but for the rounding of ln).
--
-- Input: a table or view named interactions with these columns. One row: a user was engaged with an item.
--   user_id  any type; rows without one are left out. Write unknown users as NULL.
--   item_id  any type; rows without one are left out. Ids are compared as text, by code points.
--   weight   a number; rows count whose weight is finite, above 0 and at least `least`. Without weights: 1
--   time     a number, date or timestamp, later is larger; rows without one are left out. Without times: 0
--
-- 1. The rows of a user and an item are one, with the newest time.
-- 2. Of each user the `newest` newest items are kept; of equal times (or without times) the smaller id. Users with
--    one item are left out.
-- 3. n(i) is the number of users of item i, U that of all users, count(i, j) that of users with both.
-- 4. A pair is an edge if count(i, j) >= `support`. Its weight is
--      cosine = count / sqrt(n(i) n(j)),  lift = count U / (n(i) n(j)),  pmi = ln(lift),  count = count.
-- 5. Each item keeps the `k` edges of the highest weight (of pmi: the highest lift); of equal ones the smaller id.
WITH settings AS (
  SELECT 'cosine' AS weighting, 2 AS support, 50 AS k, 200 AS newest, CAST(0 AS DOUBLE) AS least
),
engaged AS (
  SELECT user_id, CAST(item_id AS STRING) AS item, MAX(time) AS time
  FROM interactions CROSS JOIN settings
  WHERE user_id IS NOT NULL AND item_id IS NOT NULL AND time IS NOT NULL
    AND weight > 0 AND weight >= least AND weight < CAST('Infinity' AS DOUBLE)  -- NaN is above all numbers
  GROUP BY user_id, CAST(item_id AS STRING)
),
numbered AS (
  SELECT item, CAST(ROW_NUMBER() OVER (ORDER BY item) AS INT) AS number FROM (SELECT DISTINCT item FROM engaged) AS items
),
placed AS (
  SELECT
    user_id, number,
    ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY time DESC, number) AS place,
    COUNT(*) OVER (PARTITION BY user_id) AS size
  FROM engaged JOIN numbered ON engaged.item = numbered.item
),
kept AS (
  SELECT user_id, number FROM placed CROSS JOIN settings WHERE place <= newest AND size >= 2
),
degrees AS (
  SELECT number, COUNT(*) AS n FROM kept GROUP BY number
),
everyone AS (
  SELECT COUNT(DISTINCT user_id) AS users FROM kept
),
pairs AS (
  SELECT one.number AS low, two.number AS high, COUNT(*) AS together
  FROM kept AS one JOIN kept AS two ON one.user_id = two.user_id AND one.number < two.number
  GROUP BY one.number, two.number
  HAVING COUNT(*) >= (SELECT support FROM settings)
),
scored AS (
  SELECT
    low, high, together,
    CASE weighting
      WHEN 'cosine' THEN CAST(together AS DOUBLE) / sqrt(CAST(one.n * two.n AS DOUBLE))
      WHEN 'count' THEN CAST(together AS DOUBLE)
      ELSE CAST(together * users AS DOUBLE) / CAST(one.n * two.n AS DOUBLE)
    END AS score
  FROM pairs
  JOIN degrees AS one ON one.number = low
  JOIN degrees AS two ON two.number = high
  CROSS JOIN everyone CROSS JOIN settings
),
directed AS (
  SELECT low AS item, high AS other, together, score FROM scored
  UNION ALL
  SELECT high AS item, low AS other, together, score FROM scored
),
ranked AS (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY score DESC, other) AS place FROM directed
)
SELECT
  one.item AS item,
  two.item AS other,
  together AS count,
  CASE weighting WHEN 'pmi' THEN ln(score) ELSE score END AS weight
FROM ranked
JOIN numbered AS one ON one.number = ranked.item
JOIN numbered AS two ON two.number = ranked.other
CROSS JOIN settings
WHERE place <= k
ORDER BY item, place
